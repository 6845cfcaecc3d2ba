package seal

import (
	"golang.org/x/mod/sumdb/tlog"
)

// Tiles have this height: one tile covers Block leaves, or Block tiles of the level below. Level 0, the leaf hashes, is not
// stored; they are computed from the log again.
const (
	TileHeight = 8
	Block      = 1 << TileHeight
)

// Source is where a tree's hashes are: leaf hashes of a block, computed from the log, and stored hashes of whole tiles. Both
// give n hashes from a number on.
type Source struct {
	Leaves func(from int64, n int) ([]tlog.Hash, error)
	Tiles  func(level int, from int64, n int) ([]tlog.Hash, error) // level 1 and up
}

// ReadHashes implements tlog.HashReader.
func (s Source) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	have := map[tlog.Tile][]byte{}
	out := make([]tlog.Hash, 0, len(indexes))
	for _, index := range indexes {
		tile := tlog.TileForIndex(TileHeight, index)
		data, ok := have[tile]
		if !ok {
			hashes, err := s.read(tile)
			if err != nil {
				return nil, err
			}
			for _, h := range hashes {
				data = append(data, h[:]...)
			}
			have[tile] = data
		}
		h, err := tlog.HashFromTile(tile, data, index)
		if err != nil {
			return nil, err
		}
		out = append(out, h)
	}
	return out, nil
}

func (s Source) read(t tlog.Tile) (hashes []tlog.Hash, err error) {
	from := t.N << TileHeight
	if t.L == 0 {
		hashes, err = s.Leaves(from, t.W)
	} else {
		hashes, err = s.Tiles(t.L, from, t.W)
	}
	if err == nil && len(hashes) != t.W {
		err = malformed("hashes %d to %d of level %d are not there", from, from+int64(t.W), t.L)
	}
	return hashes, err
}

// Range is the root of a growing list of leaf hashes, kept in as many hashes as its length has bits. The zero value is empty.
type Range struct {
	size  int64
	peaks []tlog.Hash // roots of the whole subtrees, largest first
}

// Add appends a leaf's hash.
func (r *Range) Add(h tlog.Hash) {
	for n := r.size; n&1 == 1; n >>= 1 {
		h = tlog.NodeHash(r.peaks[len(r.peaks)-1], h)
		r.peaks = r.peaks[:len(r.peaks)-1]
	}
	r.peaks = append(r.peaks, h)
	r.size++
}

// Size is how many hashes were added.
func (r *Range) Size() int64 { return r.size }

// Root is the RFC 6962 root of all that was added.
func (r *Range) Root() tlog.Hash {
	if len(r.peaks) == 0 {
		return EmptyRoot()
	}
	h := r.peaks[len(r.peaks)-1]
	for i := len(r.peaks) - 2; i >= 0; i-- {
		h = tlog.NodeHash(r.peaks[i], h)
	}
	return h
}

// RootOf is the root over hashes.
func RootOf(hashes []tlog.Hash) tlog.Hash {
	var r Range
	for _, h := range hashes {
		r.Add(h)
	}
	return r.Root()
}
