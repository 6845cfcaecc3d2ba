package declare

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/catalog/rules"
)

func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		if len(source) < 4096 {
			f.Add(source)
		}
	}
	for _, s := range []string{
		"0::", "{0", "*-0", "&{0", "0\n:", "0\n-", "{\"000\":0000A,", "- - - a", "[a: b: c: ", "a: [\n}", "? a", "<<: *a", "!!map", "--- |\n a",
		"tallystick: 1\nmeters: [{key: a, event: b, aggregation: sum, value: data.x, scale: 9}]",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, source []byte) {
		c, faults := Decode("f.yaml", source)
		if (c == nil) == (len(faults) == 0) || len(faults) > MaxFaults {
			t.Fatalf("catalog %v, %d faults", c, len(faults))
		}
		lines := bytes.Count(source, []byte("\n")) + 1
		for i, fault := range faults {
			if fault.Message == "" || fault.Line < 1 || fault.Line > lines+1 || fault.Column < 1 {
				t.Errorf("fault %+v of %d lines", fault, lines)
			}
			if i > 0 && (faults[i-1].Line > fault.Line || faults[i-1].Line == fault.Line && faults[i-1].Column > fault.Column) {
				t.Errorf("out of order: %v after %v", fault, faults[i-1])
			}
		}
		if c == nil {
			return
		}
		if problems := rules.Validate(c); len(problems) > 0 {
			t.Errorf("accepted with problems %v", problems)
		}
		if _, err := catalog.Compile(1, c); err != nil {
			t.Errorf("accepted but %v", err)
		}
		if changes := catalog.Diff(c, c); len(changes) > 0 {
			t.Errorf("differs from itself: %v", changes)
		}
	})
}
