package store

import (
	_ "github.com/cloudevents/sdk-go/v2"
	_ "github.com/cockroachdb/pebble/v2"
	_ "github.com/google/cel-go/cel"
	_ "github.com/klauspost/compress/zstd"
	_ "github.com/parquet-go/parquet-go"
	_ "github.com/santhosh-tekuri/jsonschema/v6"
	_ "golang.org/x/mod/sumdb/note"
	_ "golang.org/x/mod/sumdb/tlog"
)
