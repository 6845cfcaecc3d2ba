package remote

import "testing"

// TestRuns: whoever holds leases hears of another run before its first answer, and an answer of a run that has ended is none.
func TestRuns(t *testing.T) {
	t.Parallel()
	var r runs
	told := 0
	for _, step := range []struct {
		name         string
		before, from string
		good         bool
		told         int
	}{
		{"the first one", "", "a", true, 0},
		{"the same", "a", "a", true, 0},
		{"a balancer's", "a", "", true, 0},
		{"another one", "a", "b", true, 1},
		{"late, of the one before", "a", "a", false, 1},
		{"the same as now, asked for before", "a", "b", true, 1},
		{"a third one", "b", "c", true, 2},
	} {
		if good := r.answered(step.before, step.from, func() { told++ }); good != step.good || told != step.told {
			t.Errorf("%s: %v, told %d times", step.name, good, told)
		}
	}
	if r.now() != "c" {
		t.Errorf("the newest is %q", r.now())
	}
}
