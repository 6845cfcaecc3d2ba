package price

import "fmt"

// Model says how a quantity becomes a charge.
type Model uint8

// The models. Flat charges one amount each period; the others are described at Price.
const (
	Flat Model = iota + 1
	Graduated
	Unit
	Volume
	Package
	Stairstep
	Percentage
	GraduatedPercentage
	Dynamic
	Matrix
)

// modelWords are the models as the catalog says them, in the order of the constants.
func modelWords() [10]string {
	return [...]string{"flat", "graduated", "unit", "volume", "package", "stairstep", "percentage", "graduated_percentage", "dynamic", "matrix"}
}

// Models are all, in the order of the constants.
func Models() []Model {
	out := make([]Model, Matrix)
	for i := range out {
		out[i] = Model(i + 1)
	}
	return out
}

// ParseModel reads the word of the catalog.
func ParseModel(s string) (Model, bool) {
	for i, word := range modelWords() {
		if s == word {
			return Model(i + 1), true
		}
	}
	return 0, false
}

// String is the word of the catalog.
func (m Model) String() string {
	if words := modelWords(); m >= 1 && int(m) <= len(words) {
		return words[m-1]
	}
	return fmt.Sprintf("Model(%d)", uint8(m))
}

// ByEvent says that the model looks at single events, or at their dimensions, and not at a quantity alone.
func (m Model) ByEvent() bool { return m == Percentage || m == Dynamic || m == Matrix }

// Tiered says that the model has tiers.
func (m Model) Tiered() bool {
	return m == Graduated || m == Volume || m == Stairstep || m == GraduatedPercentage
}
