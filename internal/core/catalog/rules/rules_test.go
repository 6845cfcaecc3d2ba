package rules

import (
	"strings"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/catalog/catalogtest"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
)

func dec(s string) money.Decimal   { return money.MustDecimal(s) }
func decp(s string) *money.Decimal { d := dec(s); return &d }

func TestValidateSample(t *testing.T) {
	t.Parallel()
	if problems := Validate(catalogtest.Sample()); len(problems) > 0 {
		t.Error(problems)
	}
	if problems := Validate(&catalog.Catalog{}); len(problems) > 0 {
		t.Errorf("empty: %v", problems)
	}
}

// TestValidate breaks the sample in one place and expects the problem there and nowhere else.
func TestValidate(t *testing.T) {
	t.Parallel()
	pro := func(c *catalog.Catalog) *catalog.Plan { return &c.Plans[1] }
	tests := map[string]struct {
		spoil      func(*catalog.Catalog)
		path       string
		suggestion string
	}{
		"no key":               {func(c *catalog.Catalog) { c.Plans[0].Key = "" }, "plans[0].key", ""},
		"id as key":            {func(c *catalog.Catalog) { c.Plans[0].Key = "cus_1" }, "plans[0].key", ""},
		"same plan":            {func(c *catalog.Catalog) { c.Plans[0].Key = "pro" }, "plans[1].key", ""},
		"same limit":           {func(c *catalog.Catalog) { c.Plans[0].Limits[1].Key = "burst" }, "plans[0].limits[1].key", ""},
		"no event":             {func(c *catalog.Catalog) { c.Meters[0].Event = "" }, "meters[0].event", ""},
		"no aggregation":       {func(c *catalog.Catalog) { c.Meters[1].Aggregation = 0 }, "meters[1].aggregation", ""},
		"count has value":      {func(c *catalog.Catalog) { c.Meters[0].Value = "data.x" }, "meters[0].value", ""},
		"count has scale":      {func(c *catalog.Catalog) { c.Meters[0].Scale = 1 }, "meters[0].scale", "0"},
		"sum without value":    {func(c *catalog.Catalog) { c.Meters[1].Value = "" }, "meters[1].value", ""},
		"value is data":        {func(c *catalog.Catalog) { c.Meters[1].Value = "data." }, "meters[1].value", ""},
		"value too deep":       {func(c *catalog.Catalog) { c.Meters[1].Value = "data" + strings.Repeat(".a", 9) }, "meters[1].value", ""},
		"scale":                {func(c *catalog.Catalog) { c.Meters[1].Scale = 10 }, "meters[1].scale", ""},
		"unit":                 {func(c *catalog.Catalog) { c.Meters[1].Unit = "a\x00" }, "meters[1].unit", ""},
		"dimensions":           {func(c *catalog.Catalog) { c.Meters[0].Dimensions = []string{"a", "a"} }, "meters[0].dimensions[1]", ""},
		"currency":             {func(c *catalog.Catalog) { pro(c).Currency = money.Currency{} }, "plans[1].currency", ""},
		"name":                 {func(c *catalog.Catalog) { pro(c).Name = strings.Repeat("é", 129) }, "plans[1].name", ""},
		"model":                {func(c *catalog.Catalog) { pro(c).Prices[0].Model = 99 }, "plans[1].prices[0].model", ""},
		"charge":               {func(c *catalog.Catalog) { pro(c).Prices[0].Charge = 0 }, "plans[1].prices[0].charge", ""},
		"graduated in advance": {func(c *catalog.Catalog) { pro(c).Prices[1].Charge = price.InAdvance }, "plans[1].prices[1].charge", "in_arrears"},
		"absurd price":         {func(c *catalog.Catalog) { pro(c).Prices[0].Amount = dec("1000000000000.01") }, "plans[1].prices[0].amount", ""},
		"negative price":       {func(c *catalog.Catalog) { pro(c).Prices[0].Amount = dec("-0.01") }, "plans[1].prices[0].amount", ""},
		"decimals of price":    {func(c *catalog.Catalog) { pro(c).Prices[0].Amount = dec("0.0000000000000000001") }, "plans[1].prices[0].amount", ""},
		"flat with meter":      {func(c *catalog.Catalog) { pro(c).Prices[0].Meter = "gb" }, "plans[1].prices[0].meter", ""},
		"flat with tiers":      {func(c *catalog.Catalog) { pro(c).Prices[0].Tiers = make([]price.Tier, 1) }, "plans[1].prices[0].tiers", ""},
		"graduated amount":     {func(c *catalog.Catalog) { pro(c).Prices[1].Amount = dec("1") }, "plans[1].prices[1].amount", ""},
		"no tiers":             {func(c *catalog.Catalog) { pro(c).Prices[1].Tiers = nil }, "plans[1].prices[1].tiers", ""},
		"tier falls":           {func(c *catalog.Catalog) { pro(c).Prices[1].Tiers[1].UpTo = decp("0") }, "plans[1].prices[1].tiers[1].up_to", ""},
		"tier without up_to":   {func(c *catalog.Catalog) { pro(c).Prices[1].Tiers[0].UpTo = nil }, "plans[1].prices[1].tiers[0].up_to", ""},
		"last tier with up_to": {func(c *catalog.Catalog) { pro(c).Prices[1].Tiers[2].UpTo = decp("99") }, "plans[1].prices[1].tiers[2].up_to", ""},
		"tier decimals":        {func(c *catalog.Catalog) { pro(c).Prices[1].Tiers[1].UpTo = decp("1.0001") }, "plans[1].prices[1].tiers[1].up_to", ""},
		"unknown meter":        {func(c *catalog.Catalog) { c.Plans[0].Limits[0].Meter = "cals" }, "plans[0].limits[0].meter", "calls"},
		"no meter":             {func(c *catalog.Catalog) { c.Plans[0].Limits[0].Meter = "" }, "plans[0].limits[0].meter", ""},
		"no kind":              {func(c *catalog.Catalog) { c.Plans[0].Limits[1].Quota = nil }, "plans[0].limits[1]", ""},
		"two kinds":            {func(c *catalog.Catalog) { c.Plans[0].Limits[0].Quota = decp("1") }, "plans[0].limits[0]", ""},
		"window of bucket":     {func(c *catalog.Catalog) { c.Plans[0].Limits[0].Window = period.Day }, "plans[0].limits[0].window", ""},
		"no window":            {func(c *catalog.Catalog) { c.Plans[0].Limits[1].Window = 0 }, "plans[0].limits[1].window", ""},
		"negative quota":       {func(c *catalog.Catalog) { c.Plans[0].Limits[1].Quota = decp("-1") }, "plans[0].limits[1].quota", ""},
		"half a call":          {func(c *catalog.Catalog) { c.Plans[0].Limits[1].Quota = decp("0.5") }, "plans[0].limits[1].quota", ""},
		"absurd quota":         {func(c *catalog.Catalog) { c.Plans[0].Limits[1].Quota = decp("1000000000000001") }, "plans[0].limits[1].quota", ""},
		"huge quota":           {func(c *catalog.Catalog) { c.Plans[0].Limits[1].Quota = decp("99999999999999999999") }, "plans[0].limits[1].quota", ""},
		"same counter": {func(c *catalog.Catalog) {
			c.Plans[0].Limits = append(c.Plans[0].Limits, catalog.Limit{Key: "again", Meter: "calls", Quota: decp("5"), Window: period.Day})
		}, "plans[0].limits[2]", ""},
		"zero rate":   {func(c *catalog.Catalog) { c.Plans[0].Limits[0].Bucket.Rate = dec("0") }, "plans[0].limits[0].token_bucket.rate", ""},
		"absurd rate": {func(c *catalog.Catalog) { c.Plans[0].Limits[0].Bucket.Rate = dec("1000000000001") }, "plans[0].limits[0].token_bucket.rate", ""},
		"fine rate":   {func(c *catalog.Catalog) { c.Plans[0].Limits[0].Bucket.Rate = dec("0.0000000001") }, "plans[0].limits[0].token_bucket.rate", ""},
		"odd time":    {func(c *catalog.Catalog) { c.Plans[0].Limits[0].Bucket.Per = time.Millisecond }, "plans[0].limits[0].token_bucket.rate", ""},
		"too slow": {func(c *catalog.Catalog) {
			c.Plans[0].Limits[0].Bucket.Rate = dec("0.000000001")
			c.Plans[0].Limits[0].Bucket.Burst = dec("1000000000")
		}, "plans[0].limits[0].token_bucket", ""},
		"small burst":        {func(c *catalog.Catalog) { pro(c).Limits[1].Bucket.Burst = dec("0.9") }, "plans[1].limits[1].token_bucket.burst", ""},
		"half a burst":       {func(c *catalog.Catalog) { c.Plans[0].Limits[0].Bucket.Burst = dec("1.5") }, "plans[0].limits[0].token_bucket.burst", ""},
		"zero cap":           {func(c *catalog.Catalog) { pro(c).Limits[0].SpendCap = decp("0") }, "plans[1].limits[0].spend_cap", ""},
		"cap by day":         {func(c *catalog.Catalog) { pro(c).Limits[0].Window = period.Day }, "plans[1].limits[0].window", "billing_period"},
		"cap on a meter":     {func(c *catalog.Catalog) { pro(c).Limits[0].Meter = "gb" }, "plans[1].limits[0].meter", ""},
		"nothing to cap":     {func(c *catalog.Catalog) { pro(c).Prices = pro(c).Prices[:1] }, "plans[1].limits[0].spend_cap", ""},
		"header":             {func(c *catalog.Catalog) { c.KeyHeader = "X Key" }, "gateway.key_header", ""},
		"our header":         {func(c *catalog.Catalog) { c.KeyHeader = "Tally-Customer" }, "gateway.key_header", ""},
		"hop-by-hop":         {func(c *catalog.Catalog) { c.KeyHeader = "Connection" }, "gateway.key_header", ""},
		"no match":           {func(c *catalog.Catalog) { c.Routes[0].Match = "" }, "gateway.routes[0].match", ""},
		"no upstream":        {func(c *catalog.Catalog) { c.Routes[0].Upstream = "" }, "gateway.routes[0].upstream", ""},
		"relative":           {func(c *catalog.Catalog) { c.Routes[0].Upstream = "localhost:9000" }, "gateway.routes[0].upstream", `"http://localhost:9000"`},
		"only a path":        {func(c *catalog.Catalog) { c.Routes[0].Upstream = "http:///x" }, "gateway.routes[0].upstream", ""},
		"no port":            {func(c *catalog.Catalog) { c.Routes[0].Upstream = "http://h:" }, "gateway.routes[0].upstream", ""},
		"another meter":      {func(c *catalog.Catalog) { c.Routes[0].Meter = "call" }, "gateway.routes[0].meter", "calls"},
		"count costs two":    {func(c *catalog.Catalog) { c.Routes[0].Cost = dec("2") }, "gateway.routes[0].cost", "1"},
		"free sum":           {func(c *catalog.Catalog) { c.Routes[0].Meter = "gb"; c.Routes[0].Cost = dec("0") }, "gateway.routes[0].cost", ""},
		"negative cost":      {func(c *catalog.Catalog) { c.Routes[0].Meter = "gb"; c.Routes[0].Cost = dec("-1") }, "gateway.routes[0].cost", ""},
		"cost unmetered":     {func(c *catalog.Catalog) { c.Routes[1].Cost = dec("1") }, "gateway.routes[1].cost", ""},
		"timeout":            {func(c *catalog.Catalog) { c.Routes[1].Timeout = time.Hour }, "gateway.routes[1].timeout", ""},
		"no distinct value":  {func(c *catalog.Catalog) { apart(c, meter.Unique).Value = "" }, "meters[2].value", ""},
		"scale of a number":  {func(c *catalog.Catalog) { apart(c, meter.Unique).Scale = 1 }, "meters[2].scale", "0"},
		"level without path": {func(c *catalog.Catalog) { apart(c, meter.TimeWeighted).Value = "" }, "meters[2].value", ""},
		"no expression":      {func(c *catalog.Catalog) { m := apart(c, meter.Sum); m.Custom, m.Value = true, " " }, "meters[2].value", ""},
		"long expression": {func(c *catalog.Catalog) {
			m := apart(c, meter.Sum)
			m.Custom, m.Value = true, strings.Repeat("é", catalog.MaxExpression+1)
		}, "meters[2].value", ""},
		"long filter": {func(c *catalog.Catalog) {
			apart(c, meter.Max).Filter.Expression = strings.Repeat("a", catalog.MaxExpression+1)
		}, "meters[2].filter", ""},
		"filter of no path": {func(c *catalog.Catalog) {
			apart(c, meter.Max).Filter.Matches = []catalog.Match{{Path: "region", Values: []string{"eu"}}}
		}, "meters[2].filter.region", ""},
		"filter of nothing": {func(c *catalog.Catalog) {
			apart(c, meter.Max).Filter.Matches = []catalog.Match{{Path: "data.region", Values: nil}}
		}, "meters[2].filter.data.region", ""},
		"filter of too many": {func(c *catalog.Catalog) {
			apart(c, meter.Max).Filter.Matches = []catalog.Match{{Path: "data.region", Values: make([]string, catalog.MaxValues+1)}}
		}, "meters[2].filter.data.region", ""},
		"filter of many paths": {func(c *catalog.Catalog) {
			m := apart(c, meter.Max)
			for i := range catalog.MaxMatches + 1 {
				m.Filter.Matches = append(m.Filter.Matches, catalog.Match{Path: "data.a" + strings.Repeat("b", i), Values: []string{"x"}})
			}
		}, "meters[2].filter", ""},
		"dimension from nowhere": {func(c *catalog.Catalog) { c.Meters[0].From = map[string]string{"route": "route"} }, "meters[0].dimensions[0].value", ""},
		"limited peak": {func(c *catalog.Catalog) {
			apart(c, meter.Max)
			c.Plans[0].Limits[1].Meter = "peak"
		}, "plans[0].limits[1].meter", ""},
		"peak in a bucket": {func(c *catalog.Catalog) {
			apart(c, meter.Latest)
			c.Plans[0].Limits[0].Meter = "peak"
		}, "plans[0].limits[0].meter", ""},
		"capped peak": {func(c *catalog.Catalog) {
			apart(c, meter.TimeWeighted)
			c.Plans[1].Prices[1].Meter = "peak"
		}, "plans[1].limits[0].spend_cap", ""},
		"routed peak":      {func(c *catalog.Catalog) { apart(c, meter.Max); c.Routes[0].Meter = "peak" }, "gateway.routes[0].meter", ""},
		"routed filter":    {func(c *catalog.Catalog) { c.Meters[0].Filter.Expression = "true" }, "gateway.routes[0].meter", ""},
		"routed custom":    {func(c *catalog.Catalog) { apart(c, meter.Sum).Custom = true; c.Routes[0].Meter = "peak" }, "gateway.routes[0].meter", ""},
		"event type":       {func(c *catalog.Catalog) { c.Events = []catalog.EventType{{Type: "a b"}} }, "events[0].type", ""},
		"event type again": {func(c *catalog.Catalog) { c.Events = []catalog.EventType{{Type: "a"}, {Type: "a"}} }, "events[1].type", ""},
		"long schema": {func(c *catalog.Catalog) {
			c.Events = []catalog.EventType{{Type: "a", Schema: make([]byte, catalog.MaxSchema+1)}}
		}, "events[0].schema", ""},
		"short age": {func(c *catalog.Catalog) { c.Ingest.MaxAge = time.Minute }, "ingest.max_age", ""},
		"far ahead": {func(c *catalog.Catalog) { c.Ingest.MaxAhead = 25 * time.Hour }, "ingest.max_ahead", ""},
		"many limits": {func(c *catalog.Catalog) {
			for i := range catalog.MaxLimits {
				c.Plans[0].Limits = append(c.Plans[0].Limits, catalog.Limit{
					Key: "more-" + strings.Repeat("x", i), Meter: "calls", Bucket: c.Plans[0].Limits[0].Bucket,
				})
			}
		}, "plans[0].limits", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := catalogtest.Sample()
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
func apart(c *catalog.Catalog, a meter.Aggregation) *catalog.Meter {
	c.Meters = append(c.Meters, catalog.Meter{Key: "peak", Event: "level", Aggregation: a, Value: "data.x", Scale: 3})
	m := &c.Meters[len(c.Meters)-1]
	if a == meter.Unique {
		m.Scale = 0
	}
	return m
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
	c := catalogtest.Sample()
	c.Meters[0].Key = ""
	problems := Validate(c)
	if len(problems) != 1 || problems[0].Path != "meters[0].key" {
		t.Errorf("references to a meter without key are reported too: %q", problems)
	}
}
