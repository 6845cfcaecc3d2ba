package document

import (
	_ "embed" // holds the fonts
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// The fonts are reduced to what printable names; their licence lies beside them. They are strings, since fpdf writes into the bytes
// that it is given.
var (
	//go:embed fonts/NotoSans-Regular.ttf
	regular string
	//go:embed fonts/NotoSans-Bold.ttf
	bold string
)

// printable are the characters that the fonts have: Latin, Greek and Cyrillic with punctuation and currency signs.
func printable() *unicode.RangeTable {
	return &unicode.RangeTable{R16: []unicode.Range16{
		{0x0020, 0x007e, 1},
		{0x00a0, 0x024f, 1},
		{0x0259, 0x0259, 1},
		{0x02bb, 0x02bc, 1},
		{0x02c6, 0x02c7, 1},
		{0x02d8, 0x02dd, 1},
		{0x0300, 0x030f, 1},
		{0x0323, 0x0328, 1},
		{0x0370, 0x0377, 1},
		{0x037a, 0x037f, 1},
		{0x0384, 0x038a, 1},
		{0x038c, 0x038c, 1},
		{0x038e, 0x03a1, 1},
		{0x03a3, 0x03e1, 1},
		{0x03f0, 0x052f, 1},
		{0x1e00, 0x1eff, 1},
		{0x2000, 0x2064, 1},
		{0x2066, 0x2071, 1},
		{0x2074, 0x208e, 1},
		{0x2090, 0x209c, 1},
		{0x20a0, 0x20bf, 1},
		{0x2100, 0x214f, 1},
		{0xfffd, 0xfffd, 1},
	}}
}

// missing stands where the fonts lack a character.
const missing = '\ufffd'

// text makes a name printable: composed, on one line, without what steers a terminal or turns the direction of text, at most
// so many characters. What the fonts lack becomes the replacement character.
func (p *page) text(s string, most int) string {
	return p.clean(strings.Join(strings.Fields(strings.ToValidUTF8(s, string(missing))), " "), most)
}

// clean is text that keeps its line breaks.
func (p *page) clean(s string, most int) string {
	var b strings.Builder
	n := 0
	for _, r := range norm.NFC.String(strings.ToValidUTF8(s, string(missing))) {
		switch {
		case r == '\n':
		case r == '\u2212': // the fonts have no minus
			r = '-'
		case unicode.Is(unicode.Cf, r), unicode.IsControl(r):
			continue
		case !unicode.Is(p.has, r):
			r = missing
		}
		if n == most {
			b.WriteRune('…')
			break
		}
		b.WriteRune(r)
		n++
	}
	return b.String()
}
