package document

import (
	"encoding/binary"
	"testing"
	"unicode"
)

// TestFontsHaveWhatIsPrinted compares the table with the fonts' own.
func TestFontsHaveWhatIsPrinted(t *testing.T) {
	t.Parallel()
	has := printable()
	for name, font := range map[string]string{"regular": regular, "bold": bold} {
		glyphs := mapped(t, []byte(font))
		for r := range rune(0x10000) {
			if unicode.Is(has, r) != glyphs[r] {
				t.Errorf("%s: %U is in the font: %v, in the table: %v", name, r, glyphs[r], unicode.Is(has, r))
			}
		}
	}
}

// mapped reads a TrueType font's character map, of format 4.
func mapped(t *testing.T, b []byte) map[rune]bool {
	t.Helper()
	u16 := func(at int) int { return int(binary.BigEndian.Uint16(b[at:])) }
	u32 := func(at int) int { return int(binary.BigEndian.Uint32(b[at:])) }
	cmap := 0
	for i := range u16(4) {
		if entry := 12 + 16*i; string(b[entry:entry+4]) == "cmap" {
			cmap = u32(entry + 8)
		}
	}
	for i := range u16(cmap + 2) {
		sub := cmap + u32(cmap+4+8*i+4)
		if u16(sub) != 4 {
			continue
		}
		out := map[rune]bool{}
		n := u16(sub+6) / 2
		for s := range n {
			end, start := u16(sub+14+2*s), u16(sub+16+2*n+2*s)
			delta, offset := u16(sub+16+4*n+2*s), u16(sub+16+6*n+2*s)
			for r := start; r <= end && r < 0xffff; r++ {
				glyph := r + delta
				if offset != 0 {
					glyph = u16(sub + 16 + 6*n + 2*s + offset + 2*(r-start))
				}
				if glyph&0xffff != 0 {
					out[rune(r)] = true
				}
			}
		}
		return out
	}
	t.Fatal("the font has no map of format 4")
	return nil
}
