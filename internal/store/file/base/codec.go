package base

import (
	"encoding/binary"
	"errors"

	"github.com/tallystick/tallystick/internal/core/money"
)

// The letters.
const (
	keyState      = '!' // position, counts, and what ties it to its log
	keyUnit       = 'b' // unit, 0, event → nothing
	keyCut        = 'c' // instant, customer → nothing
	keyIdentity   = 'i' // identity → position, fingerprint of the digest
	keyLater      = 'l' // series, grid point, cause, event, taken → contribution of a revision
	keyMark       = 'm' // event → flags
	keyOwn        = 'o' // series, grid point, event → contribution of the event itself
	keySpot       = 'p' // position → where in the log
	keyDay        = 'r' // series, day → the rollups and tallies of its buckets
	keySeries     = 's' // number → customer, meter, first and last bucket
	keyTotal      = 't' // series, period, node, epoch → admitted total
	keyUnmatched  = 'u' // event → nothing
	keyRevisions  = 'v' // event → its revisions
	keyRevisionAt = 'w' // position of a revision → event
)

var errValue = errors.New("a value that cannot be read")

func instantKey(dst []byte, t int64) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(t)^1<<63)
}

func keyInstant(b []byte) int64 { return int64(binary.BigEndian.Uint64(b) ^ 1<<63) }

func numberKey(letter byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{letter}, n)
}

func seriesKey(dst []byte, letter byte, series uint32) []byte {
	return binary.BigEndian.AppendUint32(append(dst, letter), series)
}

// decoder takes values off the front. The first fault sticks.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int() int64 {
	v := d.uint()
	return int64(v>>1) ^ -int64(v&1)
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.bad = true
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) bytes() []byte {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func appendInt(dst []byte, v int64) []byte {
	return binary.AppendUvarint(dst, uint64(v)<<1^uint64(v>>63))
}

func appendText[T string | []byte](dst []byte, v T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(v))), v...)
}

// wide stands where a decimal's scale would, before its text.
const wide = 0xff

func appendDecimal(dst []byte, d money.Decimal) []byte {
	scale := d.Scale()
	units, err := d.Scaled(scale)
	if err != nil {
		return appendText(append(dst, wide), d.String())
	}
	return appendInt(append(dst, byte(scale)), units)
}

func (d *decoder) decimal() money.Decimal {
	scale := d.byte()
	if scale == wide {
		v, err := money.ParseDecimal(string(d.bytes()))
		d.bad = d.bad || err != nil
		return v
	}
	units := d.int()
	if scale > 38 {
		d.bad = true
		return money.Decimal{}
	}
	return money.FromScaled(units, int(scale))
}

func (d *decoder) err() error {
	if d.bad || len(d.b) > 0 {
		return errValue
	}
	return nil
}
