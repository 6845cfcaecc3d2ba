package sim

import (
	"fmt"
	"strings"
)

// Kept is a world that found something once, and is run again from then on.
type Kept struct {
	Seed  uint64
	Steps int
	Rates bool // see Config
}

// ParseKept reads a list of them: a seed and steps a line, then the word rates or not, with what they found behind; lines that begin
// with # are left out.
func ParseKept(text string) (list []Kept, err error) {
	n := 0
	for line := range strings.Lines(text) {
		if n++; strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
			continue
		}
		var k Kept
		if _, err := fmt.Sscan(line, &k.Seed, &k.Steps); err != nil || k.Steps < 1 {
			return nil, fmt.Errorf("line %d: it must begin with a seed and a number of steps", n)
		}
		words := strings.Fields(line)
		k.Rates = len(words) > 2 && words[2] == "rates"
		list = append(list, k)
	}
	return list, nil
}
