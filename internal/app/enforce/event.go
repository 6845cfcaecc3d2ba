package enforce

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/tallystick/tallystick/internal/app/enforce/record"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/receipt"
	"github.com/tallystick/tallystick/internal/store"
)

func (e *Enforcer) shortID(k record.Key) receipt.ShortID {
	return receipt.ShortID{Node: e.cfg.Node, Epoch: k.Epoch, Seq: k.Seq}
}

// entry is the usage event of a settled request. Its time is the decision instant, its value what is charged.
func (e *Enforcer) entry(r *record.Reservation, st *record.Settlement) store.Entry {
	value := money.FromScaled(st.Charge(r.Cost), r.Scale)
	var dims []meter.Dimension
	if m, ok := e.cfg.Directory.Current().Meter(r.Meter); ok {
		dims = dimensions(m, r, st.Status)
	}
	return store.Entry{
		Event: meter.Event{
			Source: e.source, ID: e.shortID(r.Key).String(), Type: r.Event, Subject: r.CustomerID,
			Time: time.UnixMicro(r.Time).UTC(), Data: eventData(r, value, st.Status),
		},
		Origin: meter.Admitted,
		Resolutions: []meter.Resolution{{
			CustomerID: r.CustomerID, Meter: r.Meter, CatalogVersion: r.CatalogVersion, Value: value, Dimensions: dims,
		}},
		Receipt: r.Receipt,
		Flags:   store.Flags(st.Flags),
		KeyID:   r.KeyID,
	}
}

// dimensions reads the meter's declared dimensions of a request; others are left out.
func dimensions(m catalog.Meter, r *record.Reservation, status int) []meter.Dimension {
	var out []meter.Dimension
	for _, name := range m.Dimensions {
		var value string
		switch m.Member(name) {
		case "method":
			value = r.Method
		case "project":
			value = r.Project
		case "route":
			value = r.Route
		case "status":
			value = strconv.Itoa(status)
		case "user":
			value = r.User
		}
		if value != "" {
			out = append(out, meter.Dimension{Name: name, Value: value})
		}
	}
	slices.SortFunc(out, func(a, b meter.Dimension) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// eventData is canonical JSON (keys sorted) of what a gateway knows of a request.
func eventData(r *record.Reservation, cost money.Decimal, status int) []byte {
	b := make([]byte, 0, 128)
	b = append(b, `{"cost":`...)
	b = append(b, cost.String()...)
	b = append(b, `,"method":`...)
	b = meter.AppendString(b, r.Method)
	if r.Project != "" {
		b = append(b, `,"project":`...)
		b = meter.AppendString(b, r.Project)
	}
	b = append(b, `,"route":`...)
	b = meter.AppendString(b, r.Route)
	b = append(b, `,"status":`...)
	b = strconv.AppendInt(b, int64(status), 10)
	if r.User != "" {
		b = append(b, `,"user":`...)
		b = meter.AppendString(b, r.User)
	}
	return append(b, '}')
}
