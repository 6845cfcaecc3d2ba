package receipt

import "math/bits"

// ShortID names one request everywhere: reservation, event and charge.
type ShortID struct {
	Node  uint16
	Epoch uint32
	Seq   uint64 // < 2^48
}

const (
	base62   = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	shortLen = 17 // 62^17 > 2^96
	lowLen   = 10 // as many digits as fit one division
	lowSize  = 62 * 62 * 62 * 62 * 62 * 62 * 62 * 62 * 62 * 62
	seqBits  = 48
	seqMax   = 1<<seqBits - 1
)

// String is 17 base62 digits (0-9A-Za-z) of the 96 bits node, epoch, sequence: of one width, and sortable within a node.
func (s ShortID) String() string { return string(s.Append(nil)) }

// Append appends String to dst. A Seq beyond 48 bits is cut to them; Seal refuses it.
func (s ShortID) Append(dst []byte) []byte {
	hi := uint64(s.Node)<<16 | uint64(s.Epoch>>16)
	lo := uint64(s.Epoch)<<seqBits | s.Seq&seqMax
	high, low := bits.Div64(hi, lo, lowSize)
	dst = append(dst, "00000000000000000"...)
	digits := dst[len(dst)-shortLen:]
	for i := shortLen - 1; i >= shortLen-lowLen; i-- {
		digits[i] = base62[low%62]
		low /= 62
	}
	for i := shortLen - lowLen - 1; i >= 0; i-- {
		digits[i] = base62[high%62]
		high /= 62
	}
	return dst
}

// ParseShortID reads what String wrote, nothing else. ErrToken.
func ParseShortID(s string) (ShortID, error) {
	if len(s) != shortLen {
		return ShortID{}, ErrToken
	}
	high, ok := digitsValue(s[:shortLen-lowLen])
	low, ok2 := digitsValue(s[shortLen-lowLen:])
	if !ok || !ok2 {
		return ShortID{}, ErrToken
	}
	hi, lo := bits.Mul64(high, lowSize)
	lo, carry := bits.Add64(lo, low, 0)
	if hi += carry; hi > 1<<32-1 {
		return ShortID{}, ErrToken
	}
	return ShortID{
		Node:  uint16(hi >> 16),
		Epoch: uint32(hi)<<16 | uint32(lo>>seqBits),
		Seq:   lo & seqMax,
	}, nil
}

// digitsValue reads at most lowLen digits.
func digitsValue(s string) (v uint64, ok bool) {
	for i := range len(s) {
		c := s[i]
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'A' <= c && c <= 'Z':
			c -= 'A' - 10
		case 'a' <= c && c <= 'z':
			c -= 'a' - 36
		default:
			return 0, false
		}
		v = v*62 + uint64(c)
	}
	return v, true
}
