package sealed

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/fermata-go/fermata/storage"
)

// Key is a secret with a name.
type Key struct {
	// ID is stored, readable, with everything that the key seals: 1 to 64 bytes.
	ID string
	// Secret has 32 random bytes.
	Secret []byte
}

// The errors of opening. Each says which value of what could not be opened.
var (
	// ErrUnknownKey: the value was sealed with a key that the backend was not given. It matches storage.ErrUnopened.
	ErrUnknownKey error = unopened("sealed with an unknown key")
	// ErrTampered: the value is not what the key sealed, or not for this place or tenant. It matches storage.ErrCorrupt.
	ErrTampered = fmt.Errorf("%w: sealed value was changed", storage.ErrCorrupt)
	// ErrPlaintext: the value is not sealed, and Options.AllowPlaintext is not set. It matches storage.ErrUnopened.
	ErrPlaintext error = unopened("value is not sealed")
)

// unopened is an error of this process's keys and options, not of the value.
type unopened string

func (e unopened) Error() string { return string(e) }

// Is reports whether target is [storage.ErrUnopened].
func (unopened) Is(target error) bool { return target == storage.ErrUnopened }

// An envelope is
//
//	magic | length of the key's id, 1 byte | key's id | salt, 24 bytes | AES-256-GCM of the plaintext
//
// The first half of the salt gives the message's own AES key, the second half is the nonce: together
// they are long enough that no two messages of a key ever share both. The salt is a MAC of
// the plaintext and its place, so that what is sent again is the same bytes.
const (
	magic    = storage.SealMark
	saltSize = 24
	textMark = "fs1." // before the base64 of an envelope in a text column
)

// sealer is a key, ready to use.
type sealer struct {
	id             string
	salts, message []byte // secrets derived from the key's
}

func newSealer(k Key) (*sealer, error) {
	if k.ID == "" || len(k.ID) > 64 {
		return nil, fmt.Errorf("sealed: %w: the id of a key has %d bytes, want 1 to 64", storage.ErrInvalid, len(k.ID))
	}
	if len(k.Secret) != 32 {
		return nil, fmt.Errorf("sealed: %w: the secret of key %q has %d bytes, want 32", storage.ErrInvalid, k.ID, len(k.Secret))
	}
	return &sealer{k.ID, mac(k.Secret, "fermata sealed: salts"), mac(k.Secret, "fermata sealed: messages")}, nil
}

// mac authenticates parts, each with its length.
func mac[T string | []byte](secret []byte, parts ...T) []byte {
	h := hmac.New(sha256.New, secret)
	for _, p := range parts {
		_, _ = h.Write(binary.AppendUvarint(nil, uint64(len(p))))
		_, _ = h.Write([]byte(p))
	}
	return h.Sum(nil)
}

// spot is where a value stands: it can't be opened as another kind of value, or another tenant's.
type spot struct{ kind, tenant string }

// seal returns the envelope of plain; nil of nil. Equal values of one place give equal envelopes.
func (s *sealer) seal(at spot, place string, plain []byte) []byte {
	if plain == nil {
		return nil
	}
	head := s.head()
	salt := mac(s.salts, []byte(at.kind), []byte(at.tenant), []byte(place), plain)[:saltSize]
	envelope := make([]byte, 0, len(head)+saltSize+len(plain)+16)
	envelope = append(append(envelope, head...), salt...)
	return s.aead(salt).Seal(envelope, salt[saltSize/2:], plain, at.bind(head))
}

func (s *sealer) head() []byte {
	return append(append([]byte(magic), byte(len(s.id))), s.id...)
}

func (s *sealer) aead(salt []byte) cipher.AEAD {
	block, err := aes.NewCipher(mac(s.message, salt[:saltSize/2]))
	if err != nil {
		panic(err) // the key has 32 bytes
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // the block has 16 bytes
	}
	return aead
}

// bind is what an envelope vouches for beside its plaintext.
func (at spot) bind(head []byte) []byte {
	return bytes.Join([][]byte{head, []byte(at.kind), []byte(at.tenant)}, []byte{0})
}

// keyring opens what any of its keys has sealed.
type keyring struct {
	current *sealer
	lookup  *sealer
	byID    map[string]*sealer
	lenient bool // values that are not sealed are returned as they are
}

// open returns the plaintext of an envelope; nil of nil.
func (r *keyring) open(at spot, envelope []byte) ([]byte, error) {
	if envelope == nil {
		return nil, nil
	}
	rest, sealed := bytes.CutPrefix(envelope, []byte(magic))
	if !sealed {
		if r.lenient {
			return envelope, nil
		}
		return nil, fmt.Errorf("open a %s: %w; set AllowPlaintext to read what was written before sealing", at.kind, ErrPlaintext)
	}
	if len(rest) == 0 || len(rest) < 1+int(rest[0])+saltSize {
		return nil, fmt.Errorf("open a %s: %w: it is cut short", at.kind, ErrTampered)
	}
	id, rest := string(rest[1:1+rest[0]]), rest[1+rest[0]:]
	s := r.byID[id]
	if s == nil {
		return nil, fmt.Errorf("open a %s: %w %q; give it to this process among Keys", at.kind, ErrUnknownKey, id)
	}
	salt := rest[:saltSize]
	plain, err := s.aead(salt).Open([]byte{}, salt[saltSize/2:], rest[saltSize:], at.bind(s.head()))
	if err != nil {
		return nil, fmt.Errorf("open a %s with key %q: %w", at.kind, id, ErrTampered)
	}
	return plain, nil
}

// token seals a text that is looked for by equality; "" of "".
func (r *keyring) token(at spot, place, text string) string {
	if text == "" {
		return ""
	}
	return encodeText(r.lookup.seal(at, place, []byte(text)))
}

// text seals a text; "" of "".
func (r *keyring) text(at spot, place, text string) string {
	if text == "" {
		return ""
	}
	return encodeText(r.current.seal(at, place, []byte(text)))
}

func encodeText(envelope []byte) string {
	return textMark + base64.RawURLEncoding.EncodeToString(envelope)
}

// openText opens what text or token sealed.
func (r *keyring) openText(at spot, sealed string) (string, error) {
	if sealed == "" {
		return "", nil
	}
	encoded, ok := strings.CutPrefix(sealed, textMark)
	if !ok {
		plain, err := r.open(at, []byte(sealed))
		return string(plain), err
	}
	envelope, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil || !bytes.HasPrefix(envelope, []byte(magic)) {
		return "", fmt.Errorf("open a %s: %w: it is no envelope", at.kind, ErrTampered)
	}
	plain, err := r.open(at, envelope)
	return string(plain), err
}
