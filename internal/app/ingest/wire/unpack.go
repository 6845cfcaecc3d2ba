package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/tallystick/tallystick/internal/app/ingest"
)

// Encodings are the values of Content-Encoding that Unpack knows.
const Encodings = "gzip, zstd"

// Unpack undoes a Content-Encoding. What would have more bytes than a call may have is ErrTooLarge, before it is unpacked whole.
func Unpack(encoding string, body []byte) ([]byte, error) {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "", "identity":
		return body, nil
	case "gzip", "x-gzip":
		r, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return nil, fmt.Errorf("%w: the body is not gzip", ErrMalformed)
		}
		return limited(r)
	case "zstd":
		r, err := zstd.NewReader(bytes.NewReader(body), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(ingest.MaxBytes))
		if err != nil {
			return nil, fmt.Errorf("%w: the body is not zstd", ErrMalformed)
		}
		defer r.Close()
		b, err := limited(r)
		if errors.Is(err, zstd.ErrWindowSizeExceeded) || errors.Is(err, zstd.ErrDecoderSizeExceeded) {
			return nil, tooLarge() // it says so of itself, or wants to look back farther than that
		}
		return b, err
	}
	return nil, fmt.Errorf("%w: pack the body as one of %s, or not at all", ErrEncoding, Encodings)
}

// limited reads at most a call's bytes; more are ErrTooLarge.
func limited(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, ingest.MaxBytes+1))
	if len(b) > ingest.MaxBytes {
		return nil, tooLarge()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: the body cannot be unpacked: %w", ErrMalformed, err)
	}
	return b, nil
}

func tooLarge() error {
	return fmt.Errorf("%w: unpacked, the body may have at most %d bytes", ErrTooLarge, ingest.MaxBytes)
}
