package notify

import (
	"context"
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/core/money"
)

// The kinds of notices about invoices.
const (
	InvoicePastDue       = "invoice.past_due"      // the due date has passed
	InvoiceReminder      = "invoice.reminder"      // still not paid
	InvoicePaid          = "invoice.paid"          // nothing is left to pay
	InvoiceUncollectible = "invoice.uncollectible" // given up
	CustomerSuspended    = "customer.suspended"    // the gateway answers 402 until it is paid
)

func invoiceKinds() []string {
	return []string{InvoicePastDue, InvoiceReminder, InvoicePaid, InvoiceUncollectible, CustomerSuspended}
}

// Invoice is what a notice says of one.
type Invoice struct {
	ID        string       `json:"id"`
	Remaining money.Amount `json:"remaining"`
	DueAt     time.Time    `json:"due_at"`
	Days      int          `json:"days_past_due,omitempty"` // of a reminder: as the catalog has it
}

// Post stores a message at once, for callers that note it as done. Of two with the same Once the first is kept.
func (s *Service) Post(ctx context.Context, m Message) error { return s.store(ctx, m) }

// invoiceSentence says what a notice about an invoice tells.
func invoiceSentence(kind string, i *Invoice) string {
	left := fmt.Sprintf("%s %s", i.Remaining, i.Remaining.Currency().Code())
	switch kind {
	case InvoicePaid:
		return fmt.Sprintf("Invoice %s is paid.", i.ID)
	case InvoiceReminder:
		return fmt.Sprintf("Invoice %s is %d days past due; %s are left to pay.", i.ID, i.Days, left)
	case InvoiceUncollectible:
		return fmt.Sprintf("Invoice %s was given up; %s are lost.", i.ID, left)
	case CustomerSuspended:
		return fmt.Sprintf("The customer's requests are refused until invoice %s is paid; %s are left to pay.", i.ID, left)
	}
	return fmt.Sprintf("Invoice %s was due at %s; %s are left to pay.", i.ID, i.DueAt.Format(time.RFC3339), left)
}
