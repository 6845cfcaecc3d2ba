// Package intake is the way of a file of usage events to the server: it reads lines or a table, sends them in batches, and
// remembers up to where their outcomes are known.
package intake

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// windowMax bounds what a packed file may ask to look back, and so the memory to unpack it.
const windowMax = 128 << 20

// Input is an opened file of events, unpacked by its suffix.
type Input struct {
	Name string // in messages
	Size int64  // of the file as it is on disk; 0: not known
	file *os.File
	raw  *counter
	text *bufio.Reader
	done func() error
}

// Open opens a file; "-" is stdin. A name that ends with .gz or .zst is unpacked. A byte order mark at its begin is passed over.
func Open(path string) (*Input, error) {
	if path == "-" {
		in := &Input{Name: "stdin", raw: &counter{in: os.Stdin}, done: func() error { return nil }}
		return in, in.begin(in.raw)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	in := &Input{Name: path, file: f, raw: &counter{in: f}, done: f.Close}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = errors.New("is a folder, not a file of events")
	}
	if err == nil {
		in.Size = info.Size()
		err = in.unpack(path)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, errors.Join(err, f.Close()))
	}
	return in, nil
}

// kind is the name without the suffix of its packing.
func kind(path string) string {
	return strings.TrimSuffix(strings.TrimSuffix(path, ".gz"), ".zst")
}

func (in *Input) unpack(path string) error {
	switch {
	case strings.HasSuffix(path, ".gz"):
		r, err := gzip.NewReader(bufio.NewReader(in.raw))
		if err != nil {
			return fmt.Errorf("it is not gzip: %w", err)
		}
		return in.begin(r)
	case strings.HasSuffix(path, ".zst"):
		r, err := zstd.NewReader(in.raw, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(windowMax))
		if err != nil {
			return fmt.Errorf("it is not zstd: %w", err)
		}
		closeFile := in.done
		in.done = func() error { r.Close(); return closeFile() }
		if err := in.begin(r); err != nil {
			return fmt.Errorf("it is not zstd: %w", err)
		}
		return nil
	}
	return in.begin(in.raw)
}

func (in *Input) begin(r io.Reader) error {
	in.text = bufio.NewReaderSize(r, 1<<16)
	mark := []byte("\ufeff")
	head, err := in.text.Peek(len(mark))
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if bytes.Equal(head, mark) {
		_, err = in.text.Discard(len(mark))
		return err
	}
	return nil
}

// Read reads unpacked text.
func (in *Input) Read(p []byte) (int, error) { return in.text.Read(p) }

// Taken is how many bytes were read of the file as it is on disk.
func (in *Input) Taken() int64 { return in.raw.n }

// Close closes the file.
func (in *Input) Close() error { return in.done() }

// counter counts what is read through it.
type counter struct {
	in io.Reader
	n  int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	c.n += int64(n)
	return n, err
}

// Table says whether a file's name is that of a CSV table.
func Table(path string) bool { return strings.HasSuffix(kind(path), ".csv") }
