package ui

import (
	"strconv"

	"github.com/tallystick/tallystick/internal/core/money"
)

// Chart is a row of bars. Its drawing is for the eye: a table with the same figures stands beside it.
type Chart struct {
	Name    string // what a screen reader says instead of the bars: with the figures that matter
	Columns []Column
	Line    *money.Decimal // a level to draw across; nil: none
	Least   int64          // the scale reaches at least so far
}

// Column is one bar; its parts stand on each other, the first one at the bottom.
type Column struct {
	Title string // what it says when pointed at
	Parts []money.Decimal
	Here  bool // the present one
}

// The drawing's own units. It is stretched to the room there is.
const (
	chartHeight  = 1000
	chartColumn  = 10
	chartGap     = 1
	chartVisible = 12 // height of the smallest part that is not nothing
)

type bar struct {
	x, y, height int64
	class        string
}

type stack struct {
	title string
	bars  []bar
}

// Top is the figure at the upper edge.
func (c Chart) Top() money.Decimal {
	top := money.FromInt(c.Least)
	if c.Line != nil && c.Line.Cmp(top) > 0 {
		top = *c.Line
	}
	for _, col := range c.Columns {
		if sum, err := total(col.Parts); err == nil && sum.Cmp(top) > 0 {
			top = sum
		}
	}
	return top
}

func total(parts []money.Decimal) (sum money.Decimal, err error) {
	for _, p := range parts {
		if sum, err = sum.Add(p); err != nil {
			return sum, err
		}
	}
	return sum, nil
}

func (c Chart) viewBox() string {
	return "0 0 " + strconv.Itoa(max(1, len(c.Columns))*chartColumn) + " " + strconv.Itoa(chartHeight)
}

func (c Chart) width() string { return strconv.Itoa(max(1, len(c.Columns)) * chartColumn) }

// lineY is where the level is drawn.
func (c Chart) lineY() string {
	return strconv.FormatInt(chartHeight-Share(*c.Line, c.Top(), chartHeight), 10)
}

func (c Chart) stacks() []stack {
	top := c.Top()
	out := make([]stack, 0, len(c.Columns))
	for i, col := range c.Columns {
		s := stack{title: col.Title}
		floor := int64(chartHeight)
		for n, p := range col.Parts {
			if p.Sign() <= 0 {
				continue
			}
			b := bar{x: int64(i*chartColumn + chartGap), height: max(chartVisible, Share(p, top, chartHeight))}
			floor -= b.height
			b.y = max(0, floor)
			b.class = "part-" + strconv.Itoa(n)
			if col.Here {
				b.class += " here"
			}
			s.bars = append(s.bars, b)
		}
		out = append(out, s)
	}
	return out
}

func number(n int64) string { return strconv.FormatInt(n, 10) }
