package catalog

import (
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/core/quota"
)

func dec(s string) money.Decimal   { return money.MustDecimal(s) }
func decp(s string) *money.Decimal { d := dec(s); return &d }

// sample is a valid catalog with one of everything.
func sample() *Catalog {
	return &Catalog{
		Meters: []Meter{
			{Key: "calls", Event: "request", Aggregation: meter.Count, Dimensions: []string{"route"}},
			{Key: "gb", Event: "transfer", Aggregation: meter.Sum, Value: "data.size.gb", Unit: "GB", Scale: 3},
		},
		Plans: []Plan{
			{Key: "free", Currency: money.MustCurrency("USD"), Limits: []Limit{
				{Key: "burst", Meter: "calls", Bucket: &Bucket{Rate: dec("200"), Burst: dec("200"), Per: time.Second}},
				{Key: "daily", Meter: "calls", Quota: decp("100"), Window: period.Day},
			}},
			{
				Key: "pro", Name: "Pro", Currency: money.MustCurrency("EUR"),
				Prices: []price.Price{
					{Key: "base", Model: price.Flat, Amount: dec("20"), Charge: price.InAdvance},
					{Key: "traffic", Meter: "gb", Model: price.Graduated, Charge: price.InArrears, Tiers: []price.Tier{
						{UpTo: decp("0")}, {UpTo: decp("10.5"), UnitAmount: dec("0.1"), FlatAmount: dec("1")}, {UnitAmount: dec("0.05")},
					}},
				},
				Limits: []Limit{
					{Key: "spend", SpendCap: decp("500"), Window: period.BillingPeriod},
					{Key: "slow", Meter: "gb", Bucket: &Bucket{Rate: dec("1.5"), Burst: dec("2"), Per: time.Minute}},
				},
			},
		},
		KeyHeader: "X-Api-Key",
		Routes: []Route{
			{Match: "GET /a", Upstream: "http://127.0.0.1:9000", Meter: "calls", Cost: dec("1"), Refund: RefundDefault(), Timeout: time.Second},
			{Match: "/free", Upstream: "https://[::1]/base", Refund: RefundDefault(), Timeout: time.Minute},
		},
	}
}

func TestValidateSample(t *testing.T) {
	t.Parallel()
	if problems := Validate(sample()); len(problems) > 0 {
		t.Error(problems)
	}
	if problems := Validate(&Catalog{}); len(problems) > 0 {
		t.Errorf("empty: %v", problems)
	}
}

// TestValidate breaks the sample in one place and expects the problem there and nowhere else.
func TestValidate(t *testing.T) {
	t.Parallel()
	pro := func(c *Catalog) *Plan { return &c.Plans[1] }
	tests := map[string]struct {
		spoil      func(*Catalog)
		path       string
		suggestion string
	}{
		"no key":               {func(c *Catalog) { c.Plans[0].Key = "" }, "plans[0].key", ""},
		"id as key":            {func(c *Catalog) { c.Plans[0].Key = "cus_1" }, "plans[0].key", ""},
		"same plan":            {func(c *Catalog) { c.Plans[0].Key = "pro" }, "plans[1].key", ""},
		"same limit":           {func(c *Catalog) { c.Plans[0].Limits[1].Key = "burst" }, "plans[0].limits[1].key", ""},
		"no event":             {func(c *Catalog) { c.Meters[0].Event = "" }, "meters[0].event", ""},
		"no aggregation":       {func(c *Catalog) { c.Meters[1].Aggregation = 0 }, "meters[1].aggregation", ""},
		"count has value":      {func(c *Catalog) { c.Meters[0].Value = "data.x" }, "meters[0].value", ""},
		"count has scale":      {func(c *Catalog) { c.Meters[0].Scale = 1 }, "meters[0].scale", "0"},
		"sum without value":    {func(c *Catalog) { c.Meters[1].Value = "" }, "meters[1].value", ""},
		"value is data":        {func(c *Catalog) { c.Meters[1].Value = "data." }, "meters[1].value", ""},
		"value too deep":       {func(c *Catalog) { c.Meters[1].Value = "data" + strings.Repeat(".a", 9) }, "meters[1].value", ""},
		"scale":                {func(c *Catalog) { c.Meters[1].Scale = 10 }, "meters[1].scale", ""},
		"unit":                 {func(c *Catalog) { c.Meters[1].Unit = "a\x00" }, "meters[1].unit", ""},
		"dimensions":           {func(c *Catalog) { c.Meters[0].Dimensions = []string{"a", "a"} }, "meters[0].dimensions[1]", ""},
		"currency":             {func(c *Catalog) { pro(c).Currency = money.Currency{} }, "plans[1].currency", ""},
		"name":                 {func(c *Catalog) { pro(c).Name = strings.Repeat("é", 129) }, "plans[1].name", ""},
		"model":                {func(c *Catalog) { pro(c).Prices[0].Model = 99 }, "plans[1].prices[0].model", ""},
		"charge":               {func(c *Catalog) { pro(c).Prices[0].Charge = 0 }, "plans[1].prices[0].charge", ""},
		"graduated in advance": {func(c *Catalog) { pro(c).Prices[1].Charge = price.InAdvance }, "plans[1].prices[1].charge", "in_arrears"},
		"absurd price":         {func(c *Catalog) { pro(c).Prices[0].Amount = dec("1000000000000.01") }, "plans[1].prices[0].amount", ""},
		"negative price":       {func(c *Catalog) { pro(c).Prices[0].Amount = dec("-0.01") }, "plans[1].prices[0].amount", ""},
		"decimals of price":    {func(c *Catalog) { pro(c).Prices[0].Amount = dec("0.0000000000000000001") }, "plans[1].prices[0].amount", ""},
		"flat with meter":      {func(c *Catalog) { pro(c).Prices[0].Meter = "gb" }, "plans[1].prices[0].meter", ""},
		"flat with tiers":      {func(c *Catalog) { pro(c).Prices[0].Tiers = make([]price.Tier, 1) }, "plans[1].prices[0].tiers", ""},
		"graduated amount":     {func(c *Catalog) { pro(c).Prices[1].Amount = dec("1") }, "plans[1].prices[1].amount", ""},
		"no tiers":             {func(c *Catalog) { pro(c).Prices[1].Tiers = nil }, "plans[1].prices[1].tiers", ""},
		"tier falls":           {func(c *Catalog) { pro(c).Prices[1].Tiers[1].UpTo = decp("0") }, "plans[1].prices[1].tiers[1].up_to", ""},
		"tier without up_to":   {func(c *Catalog) { pro(c).Prices[1].Tiers[0].UpTo = nil }, "plans[1].prices[1].tiers[0].up_to", ""},
		"last tier with up_to": {func(c *Catalog) { pro(c).Prices[1].Tiers[2].UpTo = decp("99") }, "plans[1].prices[1].tiers[2].up_to", ""},
		"tier decimals":        {func(c *Catalog) { pro(c).Prices[1].Tiers[1].UpTo = decp("1.0001") }, "plans[1].prices[1].tiers[1].up_to", ""},
		"unknown meter":        {func(c *Catalog) { c.Plans[0].Limits[0].Meter = "cals" }, "plans[0].limits[0].meter", "calls"},
		"no meter":             {func(c *Catalog) { c.Plans[0].Limits[0].Meter = "" }, "plans[0].limits[0].meter", ""},
		"no kind":              {func(c *Catalog) { c.Plans[0].Limits[1].Quota = nil }, "plans[0].limits[1]", ""},
		"two kinds":            {func(c *Catalog) { c.Plans[0].Limits[0].Quota = decp("1") }, "plans[0].limits[0]", ""},
		"window of bucket":     {func(c *Catalog) { c.Plans[0].Limits[0].Window = period.Day }, "plans[0].limits[0].window", ""},
		"no window":            {func(c *Catalog) { c.Plans[0].Limits[1].Window = 0 }, "plans[0].limits[1].window", ""},
		"negative quota":       {func(c *Catalog) { c.Plans[0].Limits[1].Quota = decp("-1") }, "plans[0].limits[1].quota", ""},
		"half a call":          {func(c *Catalog) { c.Plans[0].Limits[1].Quota = decp("0.5") }, "plans[0].limits[1].quota", ""},
		"absurd quota":         {func(c *Catalog) { c.Plans[0].Limits[1].Quota = decp("1000000000000001") }, "plans[0].limits[1].quota", ""},
		"huge quota":           {func(c *Catalog) { c.Plans[0].Limits[1].Quota = decp("99999999999999999999") }, "plans[0].limits[1].quota", ""},
		"same counter": {func(c *Catalog) {
			c.Plans[0].Limits = append(c.Plans[0].Limits, Limit{Key: "again", Meter: "calls", Quota: decp("5"), Window: period.Day})
		}, "plans[0].limits[2]", ""},
		"zero rate":   {func(c *Catalog) { c.Plans[0].Limits[0].Bucket.Rate = dec("0") }, "plans[0].limits[0].token_bucket.rate", ""},
		"absurd rate": {func(c *Catalog) { c.Plans[0].Limits[0].Bucket.Rate = dec("1000000000001") }, "plans[0].limits[0].token_bucket.rate", ""},
		"fine rate":   {func(c *Catalog) { c.Plans[0].Limits[0].Bucket.Rate = dec("0.0000000001") }, "plans[0].limits[0].token_bucket.rate", ""},
		"odd time":    {func(c *Catalog) { c.Plans[0].Limits[0].Bucket.Per = time.Millisecond }, "plans[0].limits[0].token_bucket.rate", ""},
		"too slow": {func(c *Catalog) {
			c.Plans[0].Limits[0].Bucket.Rate = dec("0.000000001")
			c.Plans[0].Limits[0].Bucket.Burst = dec("1000000000")
		}, "plans[0].limits[0].token_bucket", ""},
		"small burst":        {func(c *Catalog) { pro(c).Limits[1].Bucket.Burst = dec("0.9") }, "plans[1].limits[1].token_bucket.burst", ""},
		"half a burst":       {func(c *Catalog) { c.Plans[0].Limits[0].Bucket.Burst = dec("1.5") }, "plans[0].limits[0].token_bucket.burst", ""},
		"zero cap":           {func(c *Catalog) { pro(c).Limits[0].SpendCap = decp("0") }, "plans[1].limits[0].spend_cap", ""},
		"cap by day":         {func(c *Catalog) { pro(c).Limits[0].Window = period.Day }, "plans[1].limits[0].window", "billing_period"},
		"cap on a meter":     {func(c *Catalog) { pro(c).Limits[0].Meter = "gb" }, "plans[1].limits[0].meter", ""},
		"nothing to cap":     {func(c *Catalog) { pro(c).Prices = pro(c).Prices[:1] }, "plans[1].limits[0].spend_cap", ""},
		"header":             {func(c *Catalog) { c.KeyHeader = "X Key" }, "gateway.key_header", ""},
		"our header":         {func(c *Catalog) { c.KeyHeader = "Tally-Customer" }, "gateway.key_header", ""},
		"hop-by-hop":         {func(c *Catalog) { c.KeyHeader = "Connection" }, "gateway.key_header", ""},
		"no match":           {func(c *Catalog) { c.Routes[0].Match = "" }, "gateway.routes[0].match", ""},
		"no upstream":        {func(c *Catalog) { c.Routes[0].Upstream = "" }, "gateway.routes[0].upstream", ""},
		"relative":           {func(c *Catalog) { c.Routes[0].Upstream = "localhost:9000" }, "gateway.routes[0].upstream", `"http://localhost:9000"`},
		"only a path":        {func(c *Catalog) { c.Routes[0].Upstream = "http:///x" }, "gateway.routes[0].upstream", ""},
		"no port":            {func(c *Catalog) { c.Routes[0].Upstream = "http://h:" }, "gateway.routes[0].upstream", ""},
		"another meter":      {func(c *Catalog) { c.Routes[0].Meter = "call" }, "gateway.routes[0].meter", "calls"},
		"count costs two":    {func(c *Catalog) { c.Routes[0].Cost = dec("2") }, "gateway.routes[0].cost", "1"},
		"free sum":           {func(c *Catalog) { c.Routes[0].Meter = "gb"; c.Routes[0].Cost = dec("0") }, "gateway.routes[0].cost", ""},
		"negative cost":      {func(c *Catalog) { c.Routes[0].Meter = "gb"; c.Routes[0].Cost = dec("-1") }, "gateway.routes[0].cost", ""},
		"cost unmetered":     {func(c *Catalog) { c.Routes[1].Cost = dec("1") }, "gateway.routes[1].cost", ""},
		"timeout":            {func(c *Catalog) { c.Routes[1].Timeout = time.Hour }, "gateway.routes[1].timeout", ""},
		"no distinct value":  {func(c *Catalog) { apart(c, meter.Unique).Value = "" }, "meters[2].value", ""},
		"scale of a number":  {func(c *Catalog) { apart(c, meter.Unique).Scale = 1 }, "meters[2].scale", "0"},
		"level without path": {func(c *Catalog) { apart(c, meter.TimeWeighted).Value = "" }, "meters[2].value", ""},
		"no expression":      {func(c *Catalog) { m := apart(c, meter.Sum); m.Custom, m.Value = true, " " }, "meters[2].value", ""},
		"long expression": {func(c *Catalog) {
			m := apart(c, meter.Sum)
			m.Custom, m.Value = true, strings.Repeat("é", MaxExpression+1)
		}, "meters[2].value", ""},
		"long filter":       {func(c *Catalog) { apart(c, meter.Max).Filter.Expression = strings.Repeat("a", MaxExpression+1) }, "meters[2].filter", ""},
		"filter of no path": {func(c *Catalog) { apart(c, meter.Max).Filter.Matches = []Match{{"region", []string{"eu"}}} }, "meters[2].filter.region", ""},
		"filter of nothing": {func(c *Catalog) { apart(c, meter.Max).Filter.Matches = []Match{{"data.region", nil}} }, "meters[2].filter.data.region", ""},
		"filter of too many": {func(c *Catalog) {
			apart(c, meter.Max).Filter.Matches = []Match{{"data.region", make([]string, MaxValues+1)}}
		}, "meters[2].filter.data.region", ""},
		"filter of many paths": {func(c *Catalog) {
			m := apart(c, meter.Max)
			for i := range MaxMatches + 1 {
				m.Filter.Matches = append(m.Filter.Matches, Match{"data.a" + strings.Repeat("b", i), []string{"x"}})
			}
		}, "meters[2].filter", ""},
		"dimension from nowhere": {func(c *Catalog) { c.Meters[0].From = map[string]string{"route": "route"} }, "meters[0].dimensions[0].value", ""},
		"limited peak": {func(c *Catalog) {
			apart(c, meter.Max)
			c.Plans[0].Limits[1].Meter = "peak"
		}, "plans[0].limits[1].meter", ""},
		"peak in a bucket": {func(c *Catalog) {
			apart(c, meter.Latest)
			c.Plans[0].Limits[0].Meter = "peak"
		}, "plans[0].limits[0].meter", ""},
		"capped peak": {func(c *Catalog) {
			apart(c, meter.TimeWeighted)
			c.Plans[1].Prices[1].Meter = "peak"
		}, "plans[1].limits[0].spend_cap", ""},
		"routed peak":      {func(c *Catalog) { apart(c, meter.Max); c.Routes[0].Meter = "peak" }, "gateway.routes[0].meter", ""},
		"routed filter":    {func(c *Catalog) { c.Meters[0].Filter.Expression = "true" }, "gateway.routes[0].meter", ""},
		"routed custom":    {func(c *Catalog) { apart(c, meter.Sum).Custom = true; c.Routes[0].Meter = "peak" }, "gateway.routes[0].meter", ""},
		"event type":       {func(c *Catalog) { c.Events = []EventType{{Type: "a b"}} }, "events[0].type", ""},
		"event type again": {func(c *Catalog) { c.Events = []EventType{{Type: "a"}, {Type: "a"}} }, "events[1].type", ""},
		"long schema":      {func(c *Catalog) { c.Events = []EventType{{Type: "a", Schema: make([]byte, MaxSchema+1)}} }, "events[0].schema", ""},
		"short age":        {func(c *Catalog) { c.Ingest.MaxAge = time.Minute }, "ingest.max_age", ""},
		"far ahead":        {func(c *Catalog) { c.Ingest.MaxAhead = 25 * time.Hour }, "ingest.max_ahead", ""},
		"many limits": {func(c *Catalog) {
			for i := range MaxLimits {
				c.Plans[0].Limits = append(c.Plans[0].Limits, Limit{
					Key: "more-" + strings.Repeat("x", i), Meter: "calls", Bucket: c.Plans[0].Limits[0].Bucket,
				})
			}
		}, "plans[0].limits", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := sample()
			tt.spoil(c)
			problems := Validate(c)
			if len(problems) != 1 || problems[0].Path != tt.path || problems[0].Suggestion != tt.suggestion {
				t.Errorf("got %q, want one at %s with suggestion %q", problems, tt.path, tt.suggestion)
			}
			for _, p := range problems {
				if p.Message == "" || p.Expected == "" {
					t.Errorf("says too little: %q", p)
				}
			}
		})
	}
}

// apart adds a sound meter of another aggregation.
func apart(c *Catalog, a meter.Aggregation) *Meter {
	c.Meters = append(c.Meters, Meter{Key: "peak", Event: "level", Aggregation: a, Value: "data.x", Scale: 3})
	m := &c.Meters[len(c.Meters)-1]
	if a == meter.Unique {
		m.Scale = 0
	}
	return m
}

// TestRecounts: what a meter says of how it counts, and what it only says of itself.
func TestRecounts(t *testing.T) {
	t.Parallel()
	was := Meter{Key: "a", Event: "e", Aggregation: meter.Sum, Value: "data.x", Scale: 2, Filter: Filter{Matches: []Match{{"data.b", []string{"2", "1"}}, {"data.a", []string{"x"}}}}}
	for want, change := range map[string]func(*Meter){
		"":                  func(m *Meter) { m.Unit, m.Dimensions, m.From = "u", []string{"d"}, map[string]string{"d": "data.d"} },
		"event":             func(m *Meter) { m.Event = "f" },
		"aggregation":       func(m *Meter) { m.Aggregation = meter.Max },
		"value":             func(m *Meter) { m.Value = "data.y" },
		"scale":             func(m *Meter) { m.Scale = 3 },
		"filter":            func(m *Meter) { m.Filter.Matches = m.Filter.Matches[:1] },
		"aggregation value": func(m *Meter) { m.Custom, m.Value = true, "event.data.x" },
	} {
		is := was
		change(&is)
		if got := strings.Join(is.Recounts(was), " "); got != want {
			t.Errorf("recounts %q, want %q", got, want)
		}
	}
	same := was
	same.Filter = Filter{Matches: []Match{{"data.a", []string{"x"}}, {"data.b", []string{"1", "2"}}}}
	if got := same.Recounts(was); len(got) > 0 {
		t.Errorf("order alone recounts %q", got)
	}
}

func TestSpans(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"400d": "400d", "24h": "1d", "90m": "1h30m", "5m": "5m", "90s": "1m30s", "1d": "1d", "0d": "0s", "1.5d": "", "d": "", "": "", "-1d": "", "99999999d": ""} {
		got := ""
		if d, ok := ParseSpan(text); ok {
			got = FormatSpan(d)
		}
		if got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if age, ahead := (Ingest{}).Bounds(); age != AgeDefault || ahead != AheadDefault {
		t.Errorf("defaults: %v, %v", age, ahead)
	}
}

// TestUpstreamSecret: a password in a URL must not reach a log through an error.
func TestUpstreamSecret(t *testing.T) {
	t.Parallel()
	for _, upstream := range []string{"http://user:hunter2@h/", "http://user:hunter2@h:x/", "ftp://user:hunter2@h/?q"} {
		if fault := upstreamFault(upstream); fault == "" || strings.Contains(fault, "hunter2") {
			t.Errorf("%q: %q", upstream, fault)
		}
	}
}

func TestNamelessMeter(t *testing.T) {
	t.Parallel()
	c := sample()
	c.Meters[0].Key = ""
	problems := Validate(c)
	if len(problems) != 1 || problems[0].Path != "meters[0].key" {
		t.Errorf("references to a meter without key are reported too: %q", problems)
	}
}

func TestCompile(t *testing.T) {
	t.Parallel()
	c, err := Compile(7, sample())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]quota.Limit{
		"free calls": {
			{Key: "burst", Kind: quota.TokenBucket, Meter: "calls", Rate: 1, Per: 5000, Burst: 200},
			{Key: "daily", Kind: quota.Quota, Meter: "calls", Window: period.Day, Quota: 100},
		},
		"free gb":   nil,
		"pro calls": nil,
		"pro gb": {
			{Key: "spend", Kind: quota.SpendCap, Meter: "gb", Window: period.BillingPeriod},
			{Key: "slow", Kind: quota.TokenBucket, Meter: "gb", Rate: 1, Per: 40_000, Burst: 2000},
		},
		"other gb": nil,
	}
	for key, limits := range want {
		plan, meterKey, _ := strings.Cut(key, " ")
		if diff := cmp.Diff(limits, c.Limits(plan, meterKey)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", key, diff)
		}
	}
	if _, err := c.CompileLimits(c.Plans[0], "none"); err == nil {
		t.Error("compiled for an unknown meter")
	}
	if p, ok := c.PriceOf(c.Plans[1], "gb"); !ok || p.Key != "traffic" {
		t.Errorf("price of gb: %v %v", p, ok)
	}
	if _, ok := c.PriceOf(c.Plans[1], ""); ok {
		t.Error("a flat price charges no meter")
	}
}

// TestBucketExact: what compiles is the declared rate to the last digit, in lowest terms and within the bound.
func TestBucketExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		units := rateUnits()
		b := Bucket{
			Rate: money.FromScaled(rapid.Int64Range(1, 1e12).Draw(t, "rate"), rapid.IntRange(0, 9).Draw(t, "decimals")),
			Per:  units[rapid.IntRange(0, len(units)-1).Draw(t, "unit")].per,
		}
		scale := rapid.IntRange(0, MaxScale).Draw(t, "scale")
		b.Burst = money.FromScaled(rapid.Int64Range(1, 1e15).Draw(t, "burst"), scale)
		rate, per, burst, err := b.scaled(scale)
		if err != nil {
			return // too large to be exact
		}
		rational := func(d money.Decimal) *big.Rat {
			r, ok := new(big.Rat).SetString(d.String())
			if !ok {
				t.Fatalf("not a number: %s", d)
			}
			power := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)
			return r.Mul(r, new(big.Rat).SetInt(power))
		}
		want := rational(b.Rate)
		want.Quo(want, new(big.Rat).SetInt64(b.Per.Microseconds()))
		if got := big.NewRat(rate, per); got.Cmp(want) != 0 || got.Num().Int64() != rate {
			t.Fatalf("%v at scale %d: %d per %d µs, want %s", b, scale, rate, per, want)
		}
		if rational(b.Burst).Cmp(new(big.Rat).SetInt64(burst)) != 0 {
			t.Fatalf("burst %s at scale %d: %d", b.Burst, scale, burst)
		}
		size := new(big.Int).Mul(big.NewInt(burst), big.NewInt(per))
		if size.Cmp(big.NewInt(debtMax)) > 0 {
			t.Fatalf("bucket of %s", size)
		}
	})
}

func TestParseRate(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"200/s": "200/s", "1.50/m": "1.5/min", "3/min": "3/min", "4/h": "4/h", "5/d": "5/day", "6/day": "6/day",
		"": "", "200": "", "/s": "", "200/": "", "200/w": "", "200 /s": "", "2e3/s": "", "200/s/s": "", "200/S": "",
	} {
		got := ""
		if rate, per, ok := ParseRate(text); ok {
			got = Bucket{Rate: rate, Per: per}.rateText()
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func FuzzParseRate(f *testing.F) {
	for _, s := range []string{"200/s", "1.5/min", "/", "9/day/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		rate, per, ok := ParseRate(s)
		if !ok {
			return
		}
		text := Bucket{Rate: rate, Per: per}.rateText()
		again, same, ok := ParseRate(text)
		if !ok || again.Cmp(rate) != 0 || same != per {
			t.Errorf("%q prints as %q", s, text)
		}
	})
}
