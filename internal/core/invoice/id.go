package invoice

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/tallystick/tallystick/internal/core/period"
)

// revision is the run of an invoice that an id belongs to. A corrected run of the same period would be the next one.
const revision = 1

// invoiceID holds the whole period, since the invoice at subscription start and the first period's begin at one instant.
func invoiceID(subscription string, closing period.Interval) string {
	return derive("inv_", "invoice", subscription, instants(closing))
}

func lineID(subscription string, closing period.Interval, priceKey string, service period.Interval) string {
	return derive("iln_", "line", subscription, instants(closing), priceKey, instants(service))
}

// instants is an interval as two times in microseconds, big-endian.
func instants(i period.Interval) string {
	b := binary.BigEndian.AppendUint64(nil, uint64(i.Start.UnixMicro()))
	return string(binary.BigEndian.AppendUint64(b, uint64(i.End.UnixMicro())))
}

// derive is prefix and the first 26 Crockford base32 digits of SHA-256 over the length-prefixed parts and the revision.
func derive(prefix string, parts ...string) string {
	var input []byte
	for _, p := range parts {
		input = binary.BigEndian.AppendUint32(input, uint32(len(p)))
		input = append(input, p...)
	}
	input = binary.BigEndian.AppendUint32(input, revision)
	sum := sha256.Sum256(input)
	const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	const digits = 26
	out := []byte(prefix)
	for i := range digits {
		bit := i * 5
		pair := binary.BigEndian.Uint16(sum[bit/8:])
		out = append(out, alphabet[pair>>(11-bit%8)&31])
	}
	return string(out)
}
