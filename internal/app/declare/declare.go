// Package declare reads a catalog from YAML and says by line and column what is wrong with it.
package declare

import "github.com/tallystick/tallystick/internal/core/catalog"

// MaxSource is the longest accepted document in bytes.
const MaxSource = 1 << 20

// Fault is one thing wrong with a document.
type Fault struct {
	File       string `json:"file"`
	Line       int    `json:"line"`
	Column     int    `json:"column"`
	Path       string `json:"path,omitempty"`
	Message    string `json:"message"`
	Expected   string `json:"expected,omitempty"`
	Suggestion string `json:"suggestion,omitempty"`
}

func (f Fault) Error() string { panic("skeleton") }

// Decode parses one YAML document.
func Decode(file string, source []byte) (*catalog.Catalog, []Fault) { panic("skeleton") }
