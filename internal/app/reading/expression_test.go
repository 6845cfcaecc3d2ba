package reading_test

import (
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/reading"
	"github.com/tallystick/tallystick/internal/core/meter"
)

func TestScratch(t *testing.T) {
	l, err := reading.NewLanguage()
	if err != nil {
		t.Fatal(err)
	}
	e := meter.Event{Type: "x", Source: "s", Subject: "c", Time: time.UnixMicro(0).UTC(), Data: []byte(`{"a":2,"b":1.5,"n":null,"s":"7.25","l":[1,2],"o":{"k":3},"big":99999999999999999999999999999999999999}`)}
	for _, text := range []string{
		`event.data.a * 3`, `event.data.b * 2`, `2 * event.data.b`, `decimal(2) * event.data.b`, `event.data.s`, `decimal(event.data.s) + decimal(event.data.b)`,
		`1.5`, `event.data.a * 1.5`, `double(event.data.a)`, `event.data.l`, `[1,2]`, `event.foo`, `event.data.missing`, `has(event.data.missing) ? event.data.missing : 0`,
		`event.data.big + decimal("1")`, `event.data.a / 0`, `9223372036854775807 + event.data.a`, `event.time.getHours()`, `size(event.data.l)`, `event.data.l.map(x, x*2).size()`,
		`event.data.n`, `string(event.data.b)`, `int(event.data.s)`, `decimal(event.data.b) == event.data.b`, `event.data.o.k`, `event`, `1 +`, `7u`, `event.data.l[0]`, `-decimal(event.data.b)`,
		`event.data.b > 1 ? 1 : 0`, `1 < event.data.b ? 1 : 0`, `decimal(event.data.n)`, `decimal("1e5")`,
		`event.data.l.all(x, event.data.l.all(y, event.data.l.all(z, true))) ? 1 : 0`,
	} {
		x, err := l.Compile(text, reading.Quantity)
		if err != nil {
			t.Logf("%-50s compile: %v", text, err)
			continue
		}
		v, err := x.Value(reading.NewInput(e))
		t.Logf("%-50s %v %v", text, v, err)
	}
}
