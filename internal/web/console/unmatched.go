package console

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/app/inbox"
	"github.com/tallystick/tallystick/internal/store"
)

const groupsShown = 100

// unmatchedView is the groups of events that count for nothing.
type unmatchedView struct {
	inbox.Groups
	types         []string // that meters read
	done          string   // what the last fix did
	wrong         string   // why it was refused
	wrongOf       string   // the group's value
	stillPending  bool
	replayedTotal int64
}

func (c *console) unmatched(r *http.Request) (answer, error) {
	v, err := c.unmatchedView(r)
	if err != nil {
		return answer{}, err
	}
	return answer{page: unmatchedPage(c.frame(r, "Unmatched events"), v)}, nil
}

func (c *console) unmatchedView(r *http.Request) (v unmatchedView, err error) {
	for _, m := range c.Govern.Current().Meters {
		v.types = append(v.types, m.Event)
	}
	slices.Sort(v.types)
	v.types = slices.Compact(v.types)
	if n, err := strconv.ParseInt(r.URL.Query().Get("replayed"), 10, 64); err == nil && n >= 0 {
		v.done, v.replayedTotal, v.stillPending = "replayed", n, r.URL.Query().Get("more") != ""
	}
	v.Groups, err = c.cfg.Inbox.Groups(r.Context(), groupsShown)
	return v, err
}

// fixUnmatched mends a group's cause, where that is an alias, and lets its events count.
func (c *console) fixUnmatched(r *http.Request) (answer, error) {
	form, err := eventForm(r)
	if err != nil {
		return answer{}, err
	}
	cause, value := inbox.Cause(form.Get("cause")), form.Get("value")
	var kind store.AliasKind
	switch cause {
	case inbox.UnknownType:
		kind = store.AliasType
	case inbox.UnknownCustomer:
		kind = store.AliasCustomer
	case inbox.NoSubject, inbox.Unreadable, inbox.Filtered, inbox.Ready:
	}
	if kind != "" {
		_, err = c.Govern.CreateAlias(r.Context(), operatorActor, govern.NewAlias{Kind: string(kind), From: value, To: form.Get("to")})
	}
	q := url.Values{}
	if err == nil {
		q, err = c.replay(r, inbox.Replay{Actor: operatorActor, Cause: cause, Value: value})
	}
	if err == nil {
		return answer{to: "/events/unmatched?" + q.Encode()}, nil
	}
	text, ok := refusal(err)
	if !ok {
		return answer{}, err
	}
	v, err := c.unmatchedView(r)
	if err != nil {
		return answer{}, err
	}
	v.wrong, v.wrongOf = text, value
	return answer{status: http.StatusUnprocessableEntity, page: unmatchedPage(c.frame(r, "Unmatched events"), v)}, nil
}

// replay goes on for a bounded number of calls; the button can be pressed again.
func (c *console) replay(r *http.Request, q inbox.Replay) (url.Values, error) {
	total := int64(0)
	for range replayCalls {
		done, err := c.cfg.Inbox.Replay(r.Context(), q)
		total += done.Replayed
		if err != nil {
			return nil, err
		}
		if q.Cursor = done.Next; q.Cursor == "" {
			break
		}
	}
	out := url.Values{"replayed": {strconv.FormatInt(total, 10)}}
	if q.Cursor != "" {
		out.Set("more", "1")
	}
	return out, nil
}

// causeText says why a group counts for nothing.
func causeText(g inbox.Group) string {
	switch g.Cause {
	case inbox.UnknownType:
		return "No meter reads the type"
	case inbox.NoSubject:
		return "They name no customer; type"
	case inbox.UnknownCustomer:
		return "There is no customer"
	case inbox.Unreadable:
		return "Their data breaks a rule; type"
	case inbox.Filtered:
		return "The meters' filters leave them out; type"
	case inbox.Ready:
		return "They would count now; type"
	}
	return string(g.Cause)
}
