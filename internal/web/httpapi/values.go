package httpapi

import (
	"encoding/base64"
	"encoding/json"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

// Paging is what every list takes.
type Paging struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"At most so many"`
	Cursor string `query:"cursor" maxLength:"1024" doc:"next of the page before"`
}

// pageMax is the most that the stores give at once.
const pageMax = 1000

// fetch is how many to ask a store for: one more than wanted says whether there is a next page.
func (p Paging) fetch() int { return min(p.Limit+1, pageMax) }

// listBody is a page of a list.
type listBody[T any] struct {
	Items []T     `json:"items"`
	Next  *string `json:"next" doc:"Cursor of the next page; null on the last"`
}

// listOf is a page of what fetch brought; kind names the list in the cursor.
func listOf[S, T any](p Paging, kind string, rows []S, id func(S) string, body func(S) T) listBody[T] {
	out := listBody[T]{Items: make([]T, 0, min(len(rows), p.Limit))}
	for _, row := range rows[:min(len(rows), p.Limit)] {
		out.Items = append(out.Items, body(row))
	}
	if len(rows) > p.Limit || p.Limit == pageMax && len(rows) == pageMax {
		next := cursor(kind, id(rows[p.Limit-1]))
		out.Next = &next
	}
	return out
}

// cursor hides a place in a list. It names the list, so that it fits no other one.
func cursor(kind, place string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(kind + ":" + place))
}

// place is what cursor hid; no cursor is the beginning.
func place(kind, c string) (string, error) {
	if c == "" {
		return "", nil
	}
	b, err := base64.RawURLEncoding.DecodeString(c)
	found, ok := strings.CutPrefix(string(b), kind+":")
	if err != nil || !ok || cursor(kind, found) != c || found == "" || strings.ContainsFunc(found, unprintable) {
		return "", newProblem(codeCursorInvalid, "")
	}
	return found, nil
}

// unprintable is what no id of ours has; it covers bytes that are not UTF-8.
func unprintable(r rune) bool { return r <= ' ' || r > '~' }

// placeOfID is place for a list by ids of one prefix.
func placeOfID(kind, prefix, c string) (string, error) {
	id, err := place(kind, c)
	if err == nil && id != "" && !strings.HasPrefix(id, prefix) {
		return "", newProblem(codeCursorInvalid, "")
	}
	return id, err
}

// spanBody is a half-open interval.
type spanBody struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end,omitzero" doc:"Not included; absent: open"`
}

func spanOf(i period.Interval) spanBody { return spanBody{period.Truncate(i.Start), instant(i.End)} }

// maybeSpan is a span or null.
type maybeSpan struct{ span *spanBody }

// MarshalJSON prints the span or null.
func (m maybeSpan) MarshalJSON() ([]byte, error) { return json.Marshal(m.span) }

// Schema tells huma that it may be null.
func (maybeSpan) Schema(r huma.Registry) *huma.Schema {
	return &huma.Schema{OneOf: []*huma.Schema{r.Schema(reflect.TypeFor[spanBody](), true, ""), {Type: "null"}}}
}

// moneyBody is posted money.
type moneyBody struct {
	Amount   string `json:"amount" example:"12.34"`
	Currency string `json:"currency" example:"USD"`
}

func moneyOf(a money.Amount) moneyBody { return moneyBody{a.String(), a.Currency().Code()} }

// instant is an instant as the API prints it: UTC, microseconds; the zero one stays.
func instant(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return period.Truncate(t)
}

// microTime is an instant in microseconds since 1970; 0 is none.
func microTime(micros int64) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micros).UTC()
}

// customerKey is the key of a customer, or the id of one who is not there.
func (a *api) customerKey(id string) string {
	if c, ok := a.cfg.Govern.Customer(id); ok {
		return c.Key
	}
	return id
}

// customer finds one by id or key.
func (a *api) customer(ref string) (account.Customer, error) {
	c, ok := a.cfg.Govern.Customer(ref)
	if !ok {
		return c, absent("customer")
	}
	return c, nil
}

// filter is the id of a customer to list for; "" is all.
func (a *api) filter(ref string) (string, error) {
	if ref == "" {
		return "", nil
	}
	c, err := a.customer(ref)
	return c.ID, err
}

func firstOf(ss ...string) string {
	for _, s := range ss {
		if s != "" {
			return s
		}
	}
	return ""
}
