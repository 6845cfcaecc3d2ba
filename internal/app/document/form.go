package document

import (
	"bytes"
	"fmt"
)

// Form is a kind of file that a document can be.
type Form struct{ Name, Extension, ContentType string }

// Forms are all that this package makes.
func Forms() []Form {
	return []Form{
		{"pdf", "pdf", "application/pdf"},
		{"ubl", "xml", "application/xml"},
		{"csv", "csv", "text/csv; charset=utf-8; header=present"},
	}
}

// As makes a file of the form's name. Errors are those of PDF, UBL and CSV.
func (d *Document) As(form string) ([]byte, error) {
	switch form {
	case "pdf":
		return PDF(*d)
	case "ubl":
		return UBL(*d)
	case "csv":
		var out bytes.Buffer
		table := NewCSV(&out)
		if err := table.Write(*d); err != nil {
			return nil, err
		}
		err := table.Flush()
		return out.Bytes(), err
	}
	return nil, fmt.Errorf("there is no form %q: %w", form, ErrIncomplete)
}
