package books_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/books"
	"github.com/tallystick/tallystick/internal/core/money"
)

func row(admitted, reported, metered, rated, unpriced, late string) books.Row {
	d := money.MustDecimal
	return books.Row{
		CustomerID: "cus_1", Meter: "api_calls",
		Admitted: d(admitted), Reported: d(reported), Metered: d(metered), Rated: d(rated), Unpriced: d(unpriced), Late: d(late),
	}
}

func voided(r books.Row, v string) books.Row {
	r.Voided = money.MustDecimal(v)
	return r
}

// TestApart: what does not add up is checked against its lines alone, and its difference counts.
func TestApart(t *testing.T) {
	t.Parallel()
	d := money.MustDecimal
	apart := []books.Measured{
		{Meter: "peak", Metered: d("7"), Rated: d("7"), Priced: true},
		{Meter: "altered", Metered: d("7"), Rated: d("6.5"), Priced: true},
		{Meter: "free", Metered: d("9")},
		{Meter: "rated without a price", Metered: d("9"), Rated: d("9")},
		{Meter: "later", Metered: d("7"), Rated: d("7"), Late: d("3"), Priced: true},
	}
	report, err := books.Balance([]books.Row{row("11", "0", "10", "10", "0", "0")}, apart...)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range report.Apart {
		got = append(got, m.Difference.String())
	}
	if want := []string{"0", "0.5", "0", "9", "0"}; !slices.Equal(got, want) || report.Difference.String() != "10.5" || !report.Metered.Equal(d("10")) {
		t.Errorf("differences %v, in total %s, want %v", got, report.Difference, want)
	}
	huge := d("99999999999999999999999999999999999999")
	if _, err := books.Balance(nil, books.Measured{Metered: huge, Rated: huge.Neg(), Priced: true}); !errors.Is(err, money.ErrOverflow) {
		t.Errorf("Balance: %v", err)
	}
}

func TestBalance(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		rows  []books.Row
		each  []string
		total string
	}{
		{"no rows", nil, nil, "0"},
		{"balanced", []books.Row{row("1000", "20.5", "1020.5", "1000", "20.5", "20.5")}, []string{"0"}, "0"},
		{"an admitted total altered", []books.Row{row("1001", "0", "1000", "1000", "0", "0")}, []string{"1"}, "1"},
		{"a report lost", []books.Row{row("0", "4", "5", "5", "0", "0")}, []string{"1"}, "1"},
		{"a rollup altered counts on both sides", []books.Row{row("10", "0", "12", "10", "0", "0")}, []string{"4"}, "4"},
		{"a rated line altered", []books.Row{row("10", "0", "10", "9.75", "0", "0")}, []string{"0.25"}, "0.25"},
		{"late is a part of unpriced", []books.Row{row("0", "10", "10", "7", "3", "3")}, []string{"0"}, "0"},
		{
			"errors do not cancel",
			[]books.Row{row("11", "0", "10", "10", "0", "0"), row("9", "0", "10", "10", "0", "0"), row("1", "0", "1", "1", "0", "0")},
			[]string{"1", "1", "0"},
			"2",
		},
		{"what was voided is off", []books.Row{voided(row("10", "5", "12", "12", "0", "0"), "3")}, []string{"0"}, "0"},
		{"a void altered", []books.Row{voided(row("10", "5", "12", "12", "0", "0"), "2.5")}, []string{"0.5"}, "0.5"},
		{"voided after the close", []books.Row{voided(row("0", "5", "3", "5", "-2", "-2"), "2")}, []string{"0"}, "0"},
		{"nor within a row", []books.Row{row("11", "0", "10", "11", "0", "0")}, []string{"2"}, "2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			report, err := books.Balance(tt.rows)
			if err != nil {
				t.Fatal(err)
			}
			var each []string
			for _, r := range report.Rows {
				each = append(each, r.Difference.String())
			}
			if report.Rows == nil || !slices.Equal(each, tt.each) || report.Difference.String() != tt.total {
				t.Errorf("differences %v, in total %s; want %v, %s", each, report.Difference, tt.each, tt.total)
			}
		})
	}
}

func TestTotals(t *testing.T) {
	t.Parallel()
	rows := []books.Row{voided(row("1", "2", "3", "4", "5", "6"), "0.5"), voided(row("10", "20", "30", "40", "50", "60"), "0.25")}
	report, err := books.Balance(rows)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range []money.Decimal{report.Admitted, report.Reported, report.Voided, report.Metered, report.Rated, report.Unpriced, report.Late, report.Difference} {
		got = append(got, d.String())
	}
	if want := []string{"11", "22", "0.75", "33", "44", "55", "66", "66.75"}; !slices.Equal(got, want) {
		t.Errorf("totals %v, want %v", got, want)
	}
	if !rows[0].Difference.IsZero() {
		t.Error("the caller's rows were changed")
	}
	const huge = "99999999999999999999999999999999999999"
	for _, rows := range [][]books.Row{{row(huge, huge, "0", "0", "0", "0")}, {row("0", "0", "0", huge, huge, "0")}, {row("0", "0", "0", "0", "0", huge), row("0", "0", "0", "0", "0", huge)}} {
		if _, err := books.Balance(rows); !errors.Is(err, money.ErrOverflow) {
			t.Errorf("Balance: %v, want %v", err, money.ErrOverflow)
		}
	}
}

// TestEveryChangeShows starts from balanced rows and alters one number of one row.
func TestEveryChangeShows(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 5).Draw(t, "rows")
		rows := make([]books.Row, n)
		for i := range rows {
			admitted, rated := rapid.Int64Range(0, 1e6).Draw(t, "admitted"), rapid.Int64Range(0, 1e6).Draw(t, "rated")
			metered := max(admitted, rated)
			void := rapid.Int64Range(0, 1e6).Draw(t, "voided")
			rows[i] = books.Row{
				Admitted: money.FromScaled(admitted, 2), Reported: money.FromScaled(metered-admitted+void, 2), Voided: money.FromScaled(void, 2),
				Metered: money.FromScaled(metered, 2), Rated: money.FromScaled(rated, 2), Unpriced: money.FromScaled(metered-rated, 2),
			}
		}
		if report, err := books.Balance(rows); err != nil || !report.Difference.IsZero() {
			t.Fatalf("balanced rows: difference %s, %v", report.Difference, err)
		}
		altered := &rows[rapid.IntRange(0, n-1).Draw(t, "row")]
		column := rapid.SampledFrom([]*money.Decimal{&altered.Admitted, &altered.Reported, &altered.Voided, &altered.Metered, &altered.Rated, &altered.Unpriced}).Draw(t, "column")
		by := money.FromScaled(rapid.Int64Range(1, 1000).Draw(t, "by"), 2)
		if rapid.Bool().Draw(t, "down") {
			by = by.Neg()
		}
		sum, err := column.Add(by)
		if err != nil {
			t.Fatal(err)
		}
		*column = sum
		report, err := books.Balance(rows)
		want := by.Abs()
		if column == &altered.Metered {
			want, _ = want.Add(want)
		}
		if err != nil || report.Difference.Cmp(want) != 0 {
			t.Fatalf("one number altered by %s: difference %s, %v; want %s", by, report.Difference, err, want)
		}
		if strings.HasPrefix(report.Difference.String(), "-") {
			t.Fatal("negative difference")
		}
	})
}
