package invoice

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/period"
)

// revision is the run of an invoice that an id belongs to. A corrected run of the same period would be the next one.
const revision = 1

// invoiceID holds the whole period, since the invoice at subscription start and the first period's begin at one instant.
func invoiceID(subscription string, closing period.Interval) string {
	return derive("inv", "invoice", subscription, instants(closing))
}

func lineID(subscription string, closing period.Interval, priceKey string, service period.Interval) string {
	return derive("iln", "line", subscription, instants(closing), priceKey, instants(service))
}

// extraID is the id of any line but a plain one: that of the invoice's plan with usage or an amount of a price.
func extraID(subscription string, closing period.Interval, l *Line) string {
	var begins string
	if !l.Begins.IsZero() {
		begins = instants(period.Interval{Start: l.Begins, End: l.Begins})
	}
	return derive("iln", "line", subscription, instants(closing), l.Price, instants(l.Period), string(l.Kind), l.Plan, l.AddOn, begins,
		l.Of, l.Source, l.Product)
}

// instants is an interval as two times in microseconds, big-endian.
func instants(i period.Interval) string {
	b := binary.BigEndian.AppendUint64(nil, uint64(i.Start.UnixMicro()))
	return string(binary.BigEndian.AppendUint64(b, uint64(i.End.UnixMicro())))
}

// derive is an id of the first 128 bits of SHA-256 over the length-prefixed parts and the revision.
func derive(prefix string, parts ...string) string {
	var input []byte
	for _, p := range parts {
		input = binary.BigEndian.AppendUint32(input, uint32(len(p)))
		input = append(input, p...)
	}
	input = binary.BigEndian.AppendUint32(input, revision)
	sum := sha256.Sum256(input)
	return account.FormatID(prefix, [16]byte(sum[:16]))
}
