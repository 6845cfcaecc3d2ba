package intake

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

// stateSuffix names the file beside an input that says up to where its outcomes are known. It is gone once all are.
const stateSuffix = ".tally-ingest"

// state is what is in it. A change of the input before the offset, or of how it is read, makes it worthless.
type state struct {
	Version int      `json:"version"`
	Reading string   `json:"reading"` // how the input is read: lines, or a table's mapping
	Offset  int64    `json:"offset"`  // bytes of unpacked text whose events have outcomes
	Line    int      `json:"line"`
	Digest  string   `json:"sha256"` // of those bytes
	Columns []string `json:"columns,omitempty"`
	Counts  Counts   `json:"counts"`
	Rejects int64    `json:"rejects"` // bytes written to the file of rejects
}

const stateVersion = 1

// loadState reads a state; nil when there is none that is of use.
func loadState(path, reading string) (*state, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the state of an earlier run: %w", err)
	}
	s := &state{}
	if json.Unmarshal(b, s) != nil || s.Version != stateVersion || s.Reading != reading || s.Offset <= 0 || s.Line < 0 {
		s = nil // another version's, or of another way to read
	}
	return s, nil
}

func (s *state) at() (place, bool) {
	p := place{offset: s.Offset, line: s.Line}
	n, err := hex.Decode(p.digest[:], []byte(s.Digest))
	return p, err == nil && n == len(p.digest)
}

// save replaces the file whole. It needs no fsync: what is lost of it is sent again.
func (s *state) save(path string) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("note how far the events are sent: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("note how far the events are sent: %w", err)
	}
	return nil
}
