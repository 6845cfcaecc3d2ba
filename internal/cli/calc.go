package cli

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/tallystick/tallystick/internal/core/calc"
)

type calcCmd struct{}

// garbagePercent has memory collected at some 32 MB instead of 4: nearly all of it is garbage, and collecting it takes half the
// time of many small requests otherwise.
const garbagePercent = 800

// Run needs no server.
func (calcCmd) Run(e *Env) error {
	debug.SetGCPercent(garbagePercent)
	return Calc(os.Stdin, e.Stdout)
}

// Calc answers a request on each line of r with a line on w, in order. A line that is too long is answered and left out. What is
// written stays in memory only while more lines are at hand, so that an answer comes as soon as its request is there.
func Calc(r io.Reader, w io.Writer) error {
	const room = 64 << 10
	in, out := bufio.NewReaderSize(r, room), bufio.NewWriterSize(w, room)
	var long []byte
	for {
		line, end := readLine(in, &long)
		last := errors.Is(end, io.EOF)
		if end != nil && !last {
			return fmt.Errorf("read requests: %w", errors.Join(end, out.Flush()))
		}
		if !last || len(line) > 0 {
			_, _ = out.Write(append(calc.Answer(line), '\n')) // Flush has the error
		}
		if last || in.Buffered() == 0 {
			if err := out.Flush(); err != nil {
				return fmt.Errorf("write answers: %w", err)
			}
		}
		if last {
			break
		}
	}
	return nil
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
