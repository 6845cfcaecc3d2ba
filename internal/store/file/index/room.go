package index

import (
	"slices"

	"github.com/tallystick/tallystick/internal/store/file/base"
)

// room hands out short lists from large pieces: most series get a few events between two checkpoints, and a piece of memory
// for each of them would cost more than their content. What is handed out goes when all of its piece is let go.
type room[T any] struct{ free []T }

// A piece has so many values; a list that outgrows roomMost lies by itself.
const roomPiece, roomMost = 256, 32

// one hands out one value.
func (r *room[T]) one() *T {
	if len(r.free) == 0 {
		r.free = make([]T, roomPiece)
	}
	v := &r.free[0]
	r.free = r.free[1:]
	return v
}

// more is the list with room for one more.
func (r *room[T]) more(list []T) []T {
	if len(list) < cap(list) {
		return list
	}
	size := max(1, 2*cap(list))
	if size > roomMost {
		return slices.Grow(list, 1)
	}
	if len(r.free) < size {
		r.free = make([]T, roomPiece)
	}
	longer := r.free[:len(list):size]
	r.free = r.free[size:]
	copy(longer, list)
	return longer
}

// rooms are those of a delta.
type rooms struct {
	layers        room[layer]
	parts         room[base.Part]
	grids         room[grid]
	contributions room[base.Contribution]
}
