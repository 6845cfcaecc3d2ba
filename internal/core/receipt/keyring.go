package receipt

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
)

const masterLen = 32

// master is one key of the file. The key itself is only in the closure, where no printer follows: fmt reads unexported
// fields and, for some verbs, through pointers.
type master struct {
	number byte
	derive func(info string) (subkey []byte, err error)
}

// Keyring opens tokens. A subkey per (node, epoch) is derived from a master key by HKDF-SHA-256 with the info
// "tally decision", node (2 bytes), epoch (4 bytes), big-endian, and no salt. It is immutable and never prints a key.
type Keyring struct {
	masters []master // the last one seals
	subkeys func(node uint16, epoch uint32) (Subkey, bool)
}

// Subkey is the key of one node and epoch, and the number of the master key that it is derived from. It is all that a gateway
// apart from its server gets.
type Subkey struct {
	Number byte
	Key    []byte // 32 bytes
}

// Subkey derives the newest one of a node and epoch. It is a secret.
func (k *Keyring) Subkey(node uint16, epoch uint32) (Subkey, error) {
	if len(k.masters) == 0 {
		return Subkey{}, errors.New("the keyring has no key")
	}
	newest := k.masters[len(k.masters)-1]
	key, err := newest.subkey(node, epoch)
	return Subkey{newest.number, key}, err
}

// SubkeyRing has no master keys: it seals and opens what it is given the subkey of.
func SubkeyRing(find func(node uint16, epoch uint32) (Subkey, bool)) *Keyring {
	return &Keyring{subkeys: find}
}

// newest is the cipher that seals, and its key's number.
func (k *Keyring) newest(node uint16, epoch uint32) (sealed cipher.AEAD, number byte, err error) {
	if k.subkeys != nil {
		s, ok := k.subkeys(node, epoch)
		if !ok || len(s.Key) != masterLen {
			return nil, 0, errors.New("the key of this run is not known")
		}
		sealed, err = aeadOf(s.Key)
		return sealed, s.Number, err
	}
	s, err := k.Subkey(node, epoch)
	if err != nil {
		return nil, 0, err
	}
	sealed, err = aeadOf(s.Key)
	return sealed, s.Number, err
}

// numbered is the cipher that opens what the key of a number sealed; ErrToken when there is none.
func (k *Keyring) numbered(number byte, node uint16, epoch uint32) (cipher.AEAD, error) {
	if k.subkeys != nil {
		s, ok := k.subkeys(node, epoch)
		if !ok || s.Number != number || len(s.Key) != masterLen {
			return nil, ErrToken
		}
		return aeadOf(s.Key)
	}
	m, ok := k.master(number)
	if !ok {
		return nil, ErrToken
	}
	key, err := m.subkey(node, epoch)
	if err != nil {
		return nil, err
	}
	return aeadOf(key)
}

// ParseKeyring reads secrets/decision.key: lines "1 <base64 of 32 bytes>", newest last; a token names its key by that
// number, 1 to 255, each used once. Blank lines are skipped. Old keys stay in the file as long as their decisions may
// be disputed. Errors name the line, never what is on it.
func ParseKeyring(file []byte) (*Keyring, error) {
	k := &Keyring{}
	line := 0
	for text := range bytes.Lines(file) {
		line++
		text = bytes.TrimSpace(text)
		if len(text) == 0 {
			continue
		}
		m, err := parseMaster(text)
		if _, taken := k.master(m.number); err == nil && taken {
			err = errors.New("this number is taken by a line above")
		}
		if err != nil {
			return nil, fmt.Errorf("decision key file, line %d: %w", line, err)
		}
		k.masters = append(k.masters, m)
	}
	if len(k.masters) == 0 {
		return nil, errors.New("decision key file: it has no key")
	}
	return k, nil
}

func parseMaster(text []byte) (master, error) {
	name, secret, _ := bytes.Cut(text, []byte(" "))
	number, err := strconv.ParseUint(string(name), 10, 8)
	if err != nil || number == 0 || strconv.FormatUint(number, 10) != string(name) {
		return master{}, errors.New("a line must be a number from 1 to 255, a space and a key")
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(string(secret))
	if err != nil || len(raw) != masterLen {
		return master{}, fmt.Errorf("the key must be base64 of %d bytes", masterLen)
	}
	return master{number: byte(number), derive: func(info string) ([]byte, error) {
		return hkdf.Key(sha256.New, raw, nil, info, masterLen)
	}}, nil
}

// NewKeyringFile makes the content of a first key file from 32 random bytes; ParseKeyring refuses one made of fewer.
func NewKeyringFile(random []byte) []byte {
	return []byte("1 " + base64.StdEncoding.EncodeToString(random) + "\n")
}

// String says how many keys there are.
func (k Keyring) String() string { return "keyring(" + strconv.Itoa(len(k.masters)) + " keys)" }

// Format prints String whatever the verb, so that no verb shows a key.
func (k Keyring) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, k.String()) // fmt keeps the error, if any
}

func (k *Keyring) master(number byte) (m master, ok bool) {
	for _, m := range k.masters {
		if m.number == number {
			return m, true
		}
	}
	return master{}, false
}

// subkey is the key of one (node, epoch).
func (m master) subkey(node uint16, epoch uint32) ([]byte, error) {
	info := binary.BigEndian.AppendUint16([]byte("tally decision"), node)
	info = binary.BigEndian.AppendUint32(info, epoch)
	key, err := m.derive(string(info))
	if err != nil {
		return nil, fmt.Errorf("derive decision key: %w", err)
	}
	return key, nil
}

// aeadOf is a subkey's cipher.
func aeadOf(subkey []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(subkey)
	if err != nil {
		return nil, fmt.Errorf("decision cipher: %w", err)
	}
	sealed, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("decision cipher: %w", err)
	}
	return sealed, nil
}

// String shows no key.
func (s Subkey) String() string { return "subkey(" + strconv.Itoa(int(s.Number)) + ")" }

// Format prints String whatever the verb.
func (s Subkey) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, s.String()) // fmt keeps the error, if any
}
