package cli_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/tallystick/tallystick/internal/cli"
	"github.com/tallystick/tallystick/internal/core/calc"
)

const (
	halves   = `{"op":"allocate","id":"h","currency":"USD","amount":"1","weights":["1","1"]}`
	answered = `{"id":"h","parts":["0.50","0.50"]}`
)

func TestCalcAnswersLineByLine(t *testing.T) {
	t.Parallel()
	padded := halves + strings.Repeat(" ", calc.LineMax-len(halves))
	in := halves + "\n" + padded + "\n" + padded + " \n" + strings.Repeat("x", 3*calc.LineMax) + "\n\n{\n" + halves + "\r\n" + halves
	var out strings.Builder
	if err := cli.Calc(strings.NewReader(in), &out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	wants := []string{answered, answered, "calc_too_large", "calc_too_large", "calc_syntax", "calc_syntax", answered, answered, ""}
	if len(lines) != len(wants) {
		t.Fatalf("%d lines, want %d", len(lines), len(wants))
	}
	for i, want := range wants {
		if strings.HasPrefix(want, "{") && lines[i] != want || !strings.Contains(lines[i], want) {
			t.Errorf("line %d: %.200s, want %s", i+1, lines[i], want)
		}
	}
}

// TestCalcAnswersAtOnce: the second request comes after the answer to the first.
func TestCalcAnswersAtOnce(t *testing.T) {
	t.Parallel()
	in, ask := io.Pipe()
	answer, out := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- errors.Join(cli.Calc(in, out), out.Close()) }()
	for range 3 {
		if _, err := io.WriteString(ask, halves+"\n"); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(answered)+1)
		if _, err := io.ReadFull(answer, got); err != nil || string(got) != answered+"\n" {
			t.Fatalf("%s, %v", got, err)
		}
	}
	if err := ask.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

type full struct{ io.Writer }

func (full) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

func TestCalcFailsWithItsFiles(t *testing.T) {
	t.Parallel()
	if err := cli.Calc(iotest.ErrReader(io.ErrUnexpectedEOF), io.Discard); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("reading: %v", err)
	}
	if err := cli.Calc(strings.NewReader(halves), full{}); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("writing: %v", err)
	}
}
