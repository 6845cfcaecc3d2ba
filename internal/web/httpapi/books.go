package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/tallystick/tallystick/internal/core/books"
	"github.com/tallystick/tallystick/internal/core/money"
)

// FiguresBody are the columns of the books.
type FiguresBody struct {
	Admitted   money.Decimal `json:"admitted" doc:"Running totals of enforcement"`
	Reported   money.Decimal `json:"reported" doc:"Receipts of ingest"`
	Voided     money.Decimal `json:"voided" doc:"What was taken away again: voided events, and the old values of amended ones"`
	Metered    money.Decimal `json:"metered" doc:"Rollups"`
	Rated      money.Decimal `json:"rated" doc:"Quantities on invoice and preview lines"`
	Unpriced   money.Decimal `json:"unpriced" doc:"No price on the meter, no subscription, or late"`
	Late       money.Decimal `json:"late" doc:"The part of unpriced that came after its period was closed"`
	Difference money.Decimal `json:"difference" doc:"|admitted + reported - voided - metered| + |metered - rated - unpriced|; in the totals the sum over the rows"`
}

type booksBody struct {
	FiguresBody
	Position   uint64             `json:"position" doc:"Journal position of all figures"`
	At         time.Time          `json:"at"`
	Open       int64              `json:"open" doc:"Requests on their way, not in any figure"`
	Spooled    int64              `json:"spooled_bytes" doc:"In the gateway's spool and not yet in the journal"`
	WrittenOff int64              `json:"written_off" doc:"Admitted before a crash and lost, never billed; since the start of the process"`
	Rows       []booksRowBody     `json:"rows" doc:"Newest period first"`
	Findings   []batchFindingBody `json:"findings" doc:"All that was ever wrong with gateways' batches"`
	Apart      []apartBody        `json:"apart" doc:"Meters that do not add up, newest period first: of them metered = rated"`
}

type batchFindingBody struct {
	Gateway uint16    `json:"gateway" doc:"The node's number"`
	Reason  string    `json:"reason" enum:"unsigned,unknown_key,forged,epoch,foreign,gap,lost"`
	Count   int64     `json:"count"`
	FirstAt time.Time `json:"first_at"`
	LastAt  time.Time `json:"last_at"`
	Detail  string    `json:"detail" doc:"Of the last one"`
}

// apartBody is a meter that does not add up, in one period.
type apartBody struct {
	Customer    string        `json:"customer" doc:"The customer's key"`
	CustomerID  string        `json:"customer_id"`
	Meter       string        `json:"meter"`
	Aggregation string        `json:"aggregation" enum:"min,max,latest,unique,time_weighted"`
	Period      spanBody      `json:"period"`
	Metered     money.Decimal `json:"metered" doc:"What the journal measures, at the period's close or now"`
	Rated       money.Decimal `json:"rated" doc:"The quantity on invoice and preview lines"`
	Priced      bool          `json:"priced" doc:"False: no price of the subscription is on the meter"`
	Late        money.Decimal `json:"late" doc:"By how much it measures more, or less, since the close"`
	Difference  money.Decimal `json:"difference" doc:"|metered - rated|, without a price |rated|"`
	Error       string        `json:"error,omitempty" doc:"Why it could not be rated"`
}

type booksRowBody struct {
	Customer   string    `json:"customer" doc:"The customer's key"`
	CustomerID string    `json:"customer_id"`
	Meter      string    `json:"meter"`
	Period     maybeSpan `json:"period" doc:"Null: usage outside of all subscriptions"`
	FiguresBody
	Error string `json:"error,omitempty" doc:"Why the usage could not be rated; rated is 0 then, so that it shows as a difference"`
}

func (a *api) books() {
	handle(a, operation{
		method: http.MethodGet, path: "/v1/books", id: "get-books", tag: "books",
		summary: "Check that admitted + reported - voided = metered = rated + unpriced",
	}, a.balance)
}

func (a *api) balance(ctx context.Context, in *struct {
	Customer string `query:"customer" doc:"Only this customer's; id or key"`
},
) (booksBody, error) {
	id, err := a.filter(in.Customer)
	if err != nil {
		return booksBody{}, err
	}
	if err := a.cfg.Flush(ctx); err != nil {
		return booksBody{}, err
	}
	stats := a.cfg.Enforce.Stats()
	b, err := a.cfg.Bill.Books(ctx, id)
	if err != nil {
		return booksBody{}, err
	}
	found, err := a.cfg.Receive.Findings(ctx)
	if err != nil {
		return booksBody{}, err
	}
	out := booksBody{
		FiguresBody: FiguresBody{b.Admitted, b.Reported, b.Voided, b.Metered, b.Rated, b.Unpriced, b.Late, b.Difference},
		Position:    b.Position, At: instant(b.At), Open: stats.Open, Spooled: stats.SpoolLag, WrittenOff: stats.WrittenOff,
		Rows: make([]booksRowBody, 0, len(b.Rows)), Apart: make([]apartBody, 0, len(b.Apart)), Findings: make([]batchFindingBody, 0, len(found)),
	}
	for _, f := range found {
		out.Findings = append(out.Findings, batchFindingBody{f.Node, f.Reason, f.Count, instant(f.First), instant(f.Last), f.Detail})
	}
	for _, r := range b.Rows {
		out.Rows = append(out.Rows, booksRowOf(r))
	}
	for _, m := range b.Apart {
		out.Apart = append(out.Apart, apartBody{
			m.Customer, m.CustomerID, m.Meter, m.Aggregation.String(), spanOf(m.Period), m.Metered, m.Rated, m.Priced, m.Late, m.Difference, m.Error,
		})
	}
	return out, nil
}

func booksRowOf(r books.Row) booksRowBody {
	out := booksRowBody{
		Customer: r.Customer, CustomerID: r.CustomerID, Meter: r.Meter,
		FiguresBody: FiguresBody{r.Admitted, r.Reported, r.Voided, r.Metered, r.Rated, r.Unpriced, r.Late, r.Difference},
		Error:       r.Error,
	}
	if !r.Period.Start.IsZero() {
		span := spanOf(r.Period)
		out.Period.span = &span
	}
	return out
}
