package account

import (
	"io"
	"strings"
)

const (
	nodePrefix    = "tally_gw_"
	nodeSecretLen = len(nodePrefix) + secretRandomLen + secretSumLen
)

// NewNodeSecret is the token of a gateway process: "tally_gw_" followed as in NewSecret. Errors of random.
func NewNodeSecret(random io.Reader) (string, error) { return drawSecret(nodePrefix, random) }

// CheckNodeSecret verifies shape and checksum only, at no more cost than CheckSecret. ErrBadSecret.
func CheckNodeSecret(s string) error {
	if len(s) != nodeSecretLen || !strings.HasPrefix(s, nodePrefix) || !secretSound(s, len(nodePrefix)) {
		return ErrBadSecret
	}
	return nil
}

// NodeHint is what may be shown of a token for ever: the last 4 characters of its random part, "" for a malformed one.
func NodeHint(s string) string {
	if len(s) != nodeSecretLen {
		return ""
	}
	return s[nodeSecretLen-secretSumLen-secretHintLen : nodeSecretLen-secretSumLen]
}
