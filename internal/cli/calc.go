package cli

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/tallystick/tallystick/internal/core/calc"
)

type calcCmd struct{}

// Run needs no server.
func (calcCmd) Run(e *Env) error { return Calc(os.Stdin, e.Stdout) }

// Calc answers a request on each line of r with a line on w, in order. A line that is too long is answered and left out. What is
// written stays in memory only while more lines are at hand, so that an answer comes as soon as its request is there.
func Calc(r io.Reader, w io.Writer) error {
	const room = 64 << 10
	in, out := bufio.NewReaderSize(r, room), bufio.NewWriterSize(w, room)
	var long []byte
	for {
		line, end := readLine(in, &long)
		if end != nil && !errors.Is(end, io.EOF) {
			return fmt.Errorf("read requests: %w", errors.Join(end, out.Flush()))
		}
		if end == nil || len(line) > 0 {
			_, _ = out.Write(append(calc.Answer(line), '\n')) // Flush has the error
		}
		if end != nil || in.Buffered() == 0 {
			if err := out.Flush(); err != nil {
				return fmt.Errorf("write answers: %w", err)
			}
		}
		if end != nil {
			return nil
		}
	}
}

// readLine is the next line without its end; of one above the bound, so much that it is seen to be. It uses long for what does not
// fit into the reader.
func readLine(in *bufio.Reader, long *[]byte) ([]byte, error) {
	part, err := in.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return bytes.TrimSuffix(part, []byte("\n")), err
	}
	*long = append((*long)[:0], part...)
	for errors.Is(err, bufio.ErrBufferFull) {
		part, err = in.ReadSlice('\n')
		if len(*long) <= calc.LineMax+1 { // with the end of the line
			*long = append(*long, part...)
		}
	}
	return bytes.TrimSuffix(*long, []byte("\n")), err
}
