package subscription_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/core/subscription"
)

func want(t *testing.T, got string, lines ...string) {
	t.Helper()
	if want := strings.Join(lines, "\n") + "\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestChargesOfAPlanAlone(t *testing.T) {
	t.Parallel()
	want(t, lines(t, history("pro", "2026-01-31"), "UTC", "2026-02-28", "2026-03-01"),
		"pro/platform 2026-02-28..2026-03-31 1 x 1 due 2026-02-28",
		"pro/seats 2026-02-28..2026-03-31 1 x 1 due 2026-02-28",
		"pro/calls 2026-02-28..2026-03-31 single due 2026-03-31",
		"pro/support 2026-01-31..2027-01-31 1 x 1 due 2026-01-31")
}

func TestUpgradeInTheMiddle(t *testing.T) {
	t.Parallel()
	h := history("pro", "2026-04-01", quantity("seats", "3", "2026-04-01"), toPlan("max", "2026-04-16"))
	want(t, lines(t, h, "UTC", "2026-04-01", "2026-05-01"),
		"pro/platform 2026-04-01..2026-04-16 0.5 x 1 due 2026-04-01",
		"pro/seats 2026-04-01..2026-04-16 0.5 x 3 due 2026-04-01",
		"pro/calls 2026-04-01..2026-04-16 first due 2026-05-01",
		"pro/support 2026-04-01..2026-04-16 3/73 x 1 due 2026-04-01",
		"max/platform 2026-04-16..2026-05-01 0.5 x 1 due 2026-04-16",
		"max/seats 2026-04-16..2026-05-01 0.5 x 3 due 2026-04-16",
		"max/calls 2026-04-16..2026-05-01 last due 2026-05-01")
}

func TestPauseGivesBack(t *testing.T) {
	t.Parallel()
	h := history("max", "2026-04-01", change(subscription.Pause, "2026-04-07"), change(subscription.Resume, "2026-04-16"), quantity("seats", "2", "2026-04-22"))
	want(t, lines(t, h, "UTC", "2026-04-01", "2026-05-01"),
		"max/platform 2026-04-01..2026-04-07 0.2 x 1 due 2026-04-01",
		"max/platform 2026-04-16..2026-05-01 0.5 x 1 due 2026-04-16",
		"max/seats 2026-04-01..2026-04-07 0.2 x 1 due 2026-04-01",
		"max/seats 2026-04-16..2026-04-22 0.2 x 1 due 2026-04-16",
		"max/seats 2026-04-22..2026-05-01 0.3 x 2 due 2026-04-22",
		"max/calls 2026-04-01..2026-04-07 first due 2026-05-01",
		"max/calls 2026-04-16..2026-05-01 last due 2026-05-01")
}

func TestTrialMovesTheAnchor(t *testing.T) {
	t.Parallel()
	h := history("trial", "2026-03-20 10:00")
	want(t, lines(t, h, "Europe/Paris", "2026-03-01", "2026-05-01"),
		"trial/platform 2026-04-02 22:00..2026-05-02 22:00 1 x 1 due 2026-04-02 22:00",
		"trial/calls 2026-04-02 22:00..2026-05-02 22:00 single due 2026-05-02 22:00")
	sub, ok := h.At(at("2026-03-21"), period.MustZone("Europe/Paris"), world())
	if !ok || sub.BillingDay != 20 || !sub.AnchorAt.Equal(sub.Start) || !sub.TrialEnd.Equal(at("2026-04-02 22:00")) {
		t.Errorf("in the trial: %+v, %v", sub, ok)
	}
	sub, _ = h.At(at("2026-04-03"), period.MustZone("Europe/Paris"), world())
	if sub.BillingDay != 3 || !sub.AnchorAt.Equal(sub.TrialEnd) {
		t.Errorf("after the trial: %+v", sub)
	}

	longer := change(subscription.Trial, "2026-03-25")
	longer.Until = at("2026-04-10 08:00")
	want(t, lines(t, history("trial", "2026-03-20 10:00", longer), "UTC", "2026-03-01", "2026-05-01"),
		"trial/platform 2026-04-10 08:00..2026-05-10 1 x 1 due 2026-04-10 08:00",
		"trial/calls 2026-04-10 08:00..2026-05-10 single due 2026-05-10")

	calendar := change(subscription.Trial, "2026-04-01")
	calendar.Until = at("2026-04-16")
	h = history("calendar", "2026-04-01", calendar)
	want(t, lines(t, h, "UTC", "2026-04-01", "2026-05-01"),
		"calendar/platform 2026-04-16..2026-05-01 0.5 x 1 due 2026-04-16",
		"calendar/calls 2026-04-16..2026-05-01 single due 2026-05-01")
	want(t, closings(t, h, "2026-03-01", "2026-05-02"), "2026-04-01", "2026-04-16", "2026-04-01..2026-05-01")
}

func TestAnotherIntervalMovesTheAnchor(t *testing.T) {
	t.Parallel()
	h := history("max", "2026-04-01", toPlan("yearly", "2026-04-16 12:00"))
	want(t, lines(t, h, "UTC", "2026-04-10", "2026-05-01"),
		"max/platform 2026-04-01..2026-04-16 12:00 31/60 x 1 due 2026-04-01",
		"max/seats 2026-04-01..2026-04-16 12:00 31/60 x 1 due 2026-04-01",
		"max/calls 2026-04-01..2026-04-16 12:00 single due 2026-04-16 12:00",
		"yearly/platform 2026-04-16 12:00..2027-04-16 1 x 1 due 2026-04-16 12:00")
	want(t, closings(t, h, "2026-03-01", "2027-05-01"), "2026-04-01", "2026-04-01..2026-04-16 12:00", "2026-04-16 12:00..2027-04-16")

	h = history("calendar", "2026-04-16", toPlan("max", "2026-05-10"))
	want(t, closings(t, h, "2026-03-01", "2026-06-20"), "2026-04-16", "2026-04-16..2026-05-01", "2026-05-01..2026-05-10", "2026-05-10..2026-06-10")
}

func TestVersionsAndOwnPrices(t *testing.T) {
	t.Parallel()
	version := change(subscription.ToPrices, "2026-04-16")
	version.Version = 2
	own, back := change(subscription.SetPrice, "2026-04-19"), change(subscription.SetPrice, "2026-04-22")
	own.Key, own.Price, back.Key = "calls", new(calls("0.0001")), "calls"
	h := history("pro", "2026-04-01", version, own, back)
	want(t, lines(t, h, "UTC", "2026-04-01", "2026-05-01"),
		"pro/platform 2026-04-01..2026-05-01 1 x 1 due 2026-04-01",
		"pro/seats 2026-04-01..2026-04-16 0.5 x 1 due 2026-04-01",
		"pro/seats 2026-04-16..2026-05-01 0.5 x 1 due 2026-04-16",
		"pro/calls 2026-04-01..2026-04-19 first due 2026-05-01",
		"pro/calls 2026-04-19..2026-04-22 middle due 2026-05-01",
		"pro/calls 2026-04-22..2026-05-01 last due 2026-05-01",
		"pro/support 2026-04-01..2027-04-01 1 x 1 due 2026-04-01")
}

func TestAddOns(t *testing.T) {
	t.Parallel()
	h := history("free", "2026-04-01", addOn("support", "2", "2026-04-16"), addOn("support", "3", "2026-04-19"), addOn("support", "0", "2026-04-22"))
	want(t, lines(t, h, "UTC", "2026-04-01", "2026-05-01"),
		"+support/desk 2026-04-16..2026-04-19 0.1 x 2 due 2026-04-16",
		"+support/desk 2026-04-19..2026-04-22 0.1 x 3 due 2026-04-19",
		"+support/tokens 2026-04-16..2026-04-22 single due 2026-05-01")
}

func TestWithoutProration(t *testing.T) {
	t.Parallel()
	h := history("fees", "2026-04-01", quantity("seats", "4", "2026-04-16"), change(subscription.Pause, "2026-04-20"), change(subscription.Resume, "2026-04-25"))
	want(t, lines(t, h, "UTC", "2026-04-01", "2026-06-01"),
		"fees/fee 2026-04-01..2026-05-01 1 x 1 due 2026-04-01",
		"fees/fee 2026-05-01..2026-06-01 1 x 1 due 2026-05-01",
		"fees/late 2026-04-25..2026-05-01 1 x 1 due 2026-05-01",
		"fees/late 2026-05-01..2026-06-01 1 x 1 due 2026-06-01",
		"fees/seats 2026-04-01..2026-05-01 1 x 1 due 2026-04-01",
		"fees/seats 2026-05-01..2026-06-01 1 x 4 due 2026-05-01")
}

func TestByDays(t *testing.T) {
	t.Parallel()
	h := history("days", "2026-04-01 09:00", quantity("seats", "2", "2026-04-10 12:00"), change(subscription.Cancel, "2026-04-20 12:00"))
	want(t, lines(t, h, "UTC", "2026-04-01", "2026-05-01"),
		"days/platform 2026-04-01 09:00..2026-04-20 12:00 19/30 x 1 due 2026-04-01 09:00",
		"days/seats 2026-04-01 09:00..2026-04-10 12:00 0.3 x 1 due 2026-04-01 09:00",
		"days/seats 2026-04-10 12:00..2026-04-20 12:00 1/3 x 2 due 2026-04-10 12:00")
}

func TestCancelAndRevive(t *testing.T) {
	t.Parallel()
	cancel, revive := change(subscription.Cancel, "2026-05-01"), change(subscription.Revive, "2026-04-20")
	end := func(changes ...subscription.Change) string {
		list := segments(t, history("free", "2026-04-01", changes...), "UTC")
		if last := list[len(list)-1].End; !last.IsZero() {
			return short(last)
		}
		return ""
	}
	for name, tt := range map[string]struct{ got, want string }{
		"canceled":           {end(cancel), "2026-05-01"},
		"revived":            {end(cancel, revive), ""},
		"and canceled again": {end(cancel, revive, change(subscription.Cancel, "2026-04-25")), "2026-04-25"},
		"sooner":             {end(cancel, change(subscription.Cancel, "2026-04-10")), "2026-04-10"},
		"later":              {end(change(subscription.Cancel, "2026-04-10"), cancel), "2026-05-01"},
		"moot":               {end(toPlan("pro", "2026-06-01"), cancel), "2026-05-01"},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: ends %q, want %q", name, tt.got, tt.want)
		}
	}
	if list := segments(t, history("pro", "2026-04-01", toPlan("max", "2026-04-01"), change(subscription.Cancel, "2026-04-01")), "UTC"); len(list) != 0 {
		t.Errorf("a subscription that ends as it starts has %d segments", len(list))
	}
}

func TestAMootChangeDoesNothing(t *testing.T) {
	t.Parallel()
	h := history("pro", "2026-04-01", quantity("seats", "4", "2026-05-10"), toPlan("free", "2026-05-01"))
	if list := segments(t, h, "UTC"); len(list) != 2 || list[1].Plan != "free" {
		t.Errorf("segments %+v", list)
	}
}

func TestClosings(t *testing.T) {
	t.Parallel()
	now := toPlan("max", "2026-05-10")
	now.Now = true
	h := history("pro", "2026-04-01", now, quantity("seats", "2", "2026-05-12"), change(subscription.Cancel, "2026-06-20 08:00"))
	want(t, closings(t, h, "2026-03-01", "2027-01-01"),
		"2026-04-01", "2026-04-01..2026-05-01", "2026-05-10", "2026-05-01..2026-06-01", "2026-06-01..2026-06-20 08:00")
	want(t, closings(t, h, "2026-05-01", "2026-06-01"), "2026-05-10", "2026-05-01..2026-06-01")
}

func closings(t *testing.T, h subscription.History, after, until string) string {
	t.Helper()
	var b strings.Builder
	for _, i := range subscription.Closings(segments(t, h, "UTC"), at(after), at(until), 20) {
		b.WriteString(short(i.Start))
		if !i.Empty() {
			b.WriteString(".." + short(i.End))
		}
		b.WriteString("\n")
	}
	return b.String()
}

func TestFaults(t *testing.T) {
	t.Parallel()
	mine := func(p price.Price) subscription.Change {
		c := change(subscription.SetPrice, "2026-04-10")
		c.Key, c.Price = "calls", &p
		return c
	}
	version := change(subscription.ToPrices, "2026-04-10")
	version.Version = 3
	trial := change(subscription.Trial, "2026-04-10")
	trial.Until = at("2026-04-20")
	backward := change(subscription.Trial, "2026-04-01")
	backward.Until = at("2026-03-20")
	other, every := calls("1"), calls("1")
	other.Meter, every.Every = "other", period.MustEvery("year")
	for name, tt := range map[string]struct {
		pointer string
		changes []subscription.Change
	}{
		"before the start":      {"/at", []subscription.Change{toPlan("max", "2026-03-31")}},
		"after the end":         {"/at", []subscription.Change{change(subscription.Cancel, "2026-05-01"), toPlan("max", "2026-05-01")}},
		"unknown plan":          {"/plan", []subscription.Change{toPlan("gold", "2026-04-10")}},
		"unknown version":       {"/version", []subscription.Change{version}},
		"other currency":        {"/plan", []subscription.Change{toPlan("euro", "2026-04-10")}},
		"unknown price":         {"/key", []subscription.Change{quantity("chairs", "1", "2026-04-10")}},
		"metered price":         {"/key", []subscription.Change{quantity("calls", "1", "2026-04-10")}},
		"negative":              {"/quantity", []subscription.Change{quantity("seats", "-1", "2026-04-10")}},
		"negative add-on":       {"/quantity", []subscription.Change{addOn("support", "-1", "2026-04-10")}},
		"no such add-on":        {"/key", []subscription.Change{addOn("none", "1", "2026-04-10")}},
		"add-on not there":      {"/key", []subscription.Change{addOn("support", "0", "2026-04-10")}},
		"add-on in euros":       {"/key", []subscription.Change{addOn("euro", "1", "2026-04-10")}},
		"add-on not sold there": {"/key", []subscription.Change{addOn("elsewhere", "1", "2026-04-10")}},
		"plan without add-on":   {"/plan", []subscription.Change{toPlan("max", "2026-04-10"), addOn("elsewhere", "1", "2026-04-11"), toPlan("pro", "2026-04-12")}},
		"add-on of weeks":       {"/key", []subscription.Change{addOn("weekly", "1", "2026-04-10")}},
		"add-on's key is taken": {"/key", []subscription.Change{addOn("clash", "1", "2026-04-10")}},
		"add-on's own quantity": {"/key", []subscription.Change{addOn("support", "1", "2026-04-10"), quantity("desk", "2", "2026-04-11")}},
		"plan of years":         {"/plan", []subscription.Change{addOn("support", "1", "2026-04-10"), toPlan("yearly", "2026-04-11")}},
		"resume":                {"/kind", []subscription.Change{change(subscription.Resume, "2026-04-10")}},
		"unknown kind":          {"/kind", []subscription.Change{change("party", "2026-04-10")}},
		"no trial":              {"/at", []subscription.Change{trial}},
		"backward trial":        {"/until", []subscription.Change{backward}},
		"not canceled":          {"/at", []subscription.Change{change(subscription.Revive, "2026-04-10")}},
		"revived too late":      {"/at", []subscription.Change{change(subscription.Cancel, "2026-04-10"), change(subscription.Revive, "2026-04-10")}},
		"price of another key":  {"/price/key", []subscription.Change{mine(seats("1"))}},
		"price of other usage":  {"/price/meter", []subscription.Change{mine(other)}},
		"price of years":        {"/price/every", []subscription.Change{mine(every)}},
	} {
		_, err := history("pro", "2026-04-01", tt.changes...).Segments(period.Zone{}, world())
		var f *subscription.Fault
		if !errors.As(err, &f) || !errors.Is(err, subscription.ErrInvalid) || f.Pointer != tt.pointer || f.ChangeID == "" {
			t.Errorf("%s: %#v, want a fault at %s", name, err, tt.pointer)
		}
	}
	if _, err := history("gold", "2026-04-01").Segments(period.Zone{}, world()); !errors.Is(err, subscription.ErrInvalid) {
		t.Errorf("a subscription to no plan: %v", err)
	}
	if _, err := subscription.Charges(nil, period.Zone{}, world(), period.Interval{Start: time.Unix(0, 0)}); !errors.Is(err, subscription.ErrInvalid) {
		t.Errorf("charges for ever: %v", err)
	}
}

func TestAsOf(t *testing.T) {
	t.Parallel()
	c := toPlan("max", "2026-04-16")
	c.Version = 2
	sub, ok := history("pro", "2026-04-01", c).At(at("2026-04-16"), period.Zone{}, world())
	if !ok || sub.Plan != "max" || sub.CatalogVersion != 2 || sub.Every != period.MustEvery("month") || sub.BillingDay != 1 {
		t.Errorf("%+v, %v", sub, ok)
	}
	if _, ok := history("pro", "2026-04-01").At(at("2026-03-31"), period.Zone{}, world()); ok {
		t.Error("it is in force before its start")
	}
}
