package receipt

import (
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"
)

const (
	// MaxToken is the longest token in bytes: what follows the point.
	MaxToken = 400
	// MaxEncoded is the longest encoded receipt: what MaxToken leaves after base64, key number and tag.
	MaxEncoded = MaxToken/4*3 - 1 - tagLen
	// MaxID is the longest decision id in bytes.
	MaxID = len(idPrefix) + shortLen + 1 + MaxToken
	// SealRoom is how many spare bytes of dst spare Seal an allocation.
	SealRoom = MaxID + nonceLen + 1 + MaxEncoded + tagLen

	idPrefix = "dec_"
	tagLen   = 16
	nonceLen = 12
)

// Sealer seals under the subkey of one (node, epoch), with the newest master key. The sequence is the nonce, so a
// ShortID is sealed with one content only; the same content again is fine and gives the same bytes. Two contents under
// one ShortID would lay both open and let anyone forge: never reuse an epoch, never change a receipt after sealing it.
type Sealer struct {
	seal   func(dst, nonce, text, additional []byte) []byte // not the cipher itself, so that printing shows no key
	number byte
	node   uint16
	epoch  uint32
}

// Sealer is the one of a node's epoch. The epoch must be durable before it is used.
func (k *Keyring) Sealer(node uint16, epoch uint32) (*Sealer, error) {
	sealed, number, err := k.newest(node, epoch)
	if err != nil {
		return nil, err
	}
	return &Sealer{seal: sealed.Seal, number: number, node: node, epoch: epoch}, nil
}

// Seal appends "dec_<short id>.<base64url token>" of an encoded receipt: AES-256-GCM, the short id is additional data.
// Safe for concurrent use. encoded must not lie in the spare room of dst.
//
// It panics on an id of another node or epoch, a sequence beyond 48 bits and an encoded receipt beyond MaxEncoded:
// such a call is a fault of ours, and going on would seal two texts with one nonce or make a token nobody can open.
func (s *Sealer) Seal(dst []byte, id ShortID, encoded []byte) []byte {
	if id.Node != s.node || id.Epoch != s.epoch || id.Seq > seqMax || len(encoded) > MaxEncoded {
		panic("receipt: sealing what this sealer must not seal")
	}
	dst = append(slices.Grow(dst, SealRoom), idPrefix...)
	dst = id.Append(dst)
	short := dst[len(dst)-shortLen:]
	dst = append(dst, '.')
	// The nonce and the sealed bytes live in dst too, behind the text: nothing else is allocated.
	sealedLen := 1 + len(encoded) + tagLen
	from := len(dst) + base64.RawURLEncoding.EncodedLen(sealedLen)
	room := dst[from : from+nonceLen+sealedLen]
	nonce := appendNonce(room[:0], id)
	sealed := append(room[nonceLen:nonceLen], s.number)
	sealed = s.seal(sealed, nonce, encoded, short)
	return base64.RawURLEncoding.AppendEncode(dst, sealed)
}

func appendNonce(dst []byte, id ShortID) []byte {
	dst = append(dst, 0, 0, 0, 0)
	return binary.BigEndian.AppendUint64(dst, id.Seq)
}

// Open parses "dec_<short id>.<token>", checks and decodes it. ErrToken for all that this deployment's keys did not
// seal, to the letter.
func (k *Keyring) Open(decisionID string) (Receipt, error) {
	rest, ok := strings.CutPrefix(decisionID, idPrefix)
	if !ok || len(decisionID) > MaxID {
		return Receipt{}, ErrToken
	}
	short, token, ok := strings.Cut(rest, ".")
	id, err := ParseShortID(short)
	// base64 skips line breaks, which are no part of a token.
	if err != nil || !ok || strings.ContainsAny(token, "\r\n") {
		return Receipt{}, ErrToken
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(sealed) < 1+tagLen {
		return Receipt{}, ErrToken
	}
	aead, err := k.numbered(sealed[0], id.Node, id.Epoch)
	if err != nil {
		return Receipt{}, err
	}
	encoded, err := aead.Open(nil, appendNonce(nil, id), sealed[1:], []byte(short))
	if err != nil {
		return Receipt{}, ErrToken
	}
	r, err := Decode(encoded)
	if err != nil || r.ID != id {
		return Receipt{}, ErrToken
	}
	return r, nil
}
