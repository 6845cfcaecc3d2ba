package wire

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Encodings are the values of Content-Encoding that Unpack knows.
const Encodings = "gzip, zstd"

// windowMax bounds what a zstd stream may ask to look back, and so its memory: what RFC 8878 recommends every reader to allow.
const windowMax = 8 << 20

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
		r, err := zstd.NewReader(bytes.NewReader(body), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(windowMax))
		if err != nil {
			return nil, fmt.Errorf("%w: the body is not zstd", ErrMalformed)
		}
		defer r.Close()
		return limited(r)
	}
	return nil, fmt.Errorf("%w: pack the body as one of %s, or not at all", ErrEncoding, Encodings)
}
