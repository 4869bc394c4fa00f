package follow

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"

	"google.golang.org/protobuf/proto"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/secretkey"
)

// A journal is a head, something whole, and then what has changed since, each as a record. There are two: the last good
// snapshot, which has the configuration and the endpoints, and the consumers.
//
// The head is a magic with the format's version, the name of the node's key, and a salt. A record is a length, a nonce,
// and a message that is encrypted by AES-256-GCM with the key of the file, which is derived from the node's key, the
// salt and the file's name. The record's number is authenticated with it. So a record is read only in its place of its
// file; what can't be noticed is a file that was cut at a record's end, or is an older one of the same name as a whole.

const (
	magic     = "GWSNAP02"
	keyBytes  = 8 // of a key's name
	saltBytes = 16
	headBytes = len(magic) + keyBytes + saltBytes

	lengthBytes = 4
	nonceBytes  = 12
	tagBytes    = 16
	recordHead  = lengthBytes + nonceBytes
	// maxRecord is the largest message that is written and read.
	maxRecord = 1 << 30
)

// errOtherKey is of a file that is encrypted with a key that the node does not have.
var errOtherKey = errors.New("the node does not have the key")

// fileCipher encrypts the records of one file. It is immutable.
type fileCipher struct {
	head []byte
	aead cipher.AEAD
}

// newFileCipher returns a cipher of a new file of a name.
func newFileCipher(key secretkey.Key, name string) (*fileCipher, error) {
	id, err := hex.DecodeString(key.ID())
	if err != nil {
		return nil, err
	}
	head := append([]byte(magic), id...)
	head = append(head, make([]byte, saltBytes)...)
	if _, err := rand.Read(head[len(head)-saltBytes:]); err != nil {
		return nil, err
	}
	return fileCipherOf(head, key, name)
}

func fileCipherOf(head []byte, key secretkey.Key, name string) (*fileCipher, error) {
	aead, err := key.Derive(head[len(head)-saltBytes:], "gateway: records of a node's "+name)
	if err != nil {
		return nil, err
	}
	return &fileCipher{bytes.Clone(head), aead}, nil
}

// keyNamed returns the name of the key in the head of a file's text; "": it has no head of this format.
func keyNamed(text []byte) string {
	if len(text) < headBytes || !bytes.HasPrefix(text, []byte(magic)) {
		return ""
	}
	return hex.EncodeToString(text[len(magic) : len(magic)+keyBytes])
}

// encode returns a message as the record of a number, counted from 0.
func (c *fileCipher) encode(number uint64, m *streamv1.StreamResponse) ([]byte, error) {
	size := proto.Size(m)
	if size > maxRecord {
		return nil, fmt.Errorf("it has %d bytes, at most %d can be kept", size, maxRecord)
	}
	b := make([]byte, recordHead, recordHead+size+tagBytes)
	b, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(b, m)
	if err != nil {
		return nil, err
	}
	body := b[recordHead:]
	nonce := b[lengthBytes:recordHead]
	binary.BigEndian.PutUint32(b, uint32(nonceBytes+len(body)+tagBytes))
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	return c.aead.Seal(b[:recordHead], nonce, body, numbered(number)), nil // in its place
}

// decode yields whole records from the start of a file's text, with their sizes. It overwrites the text.
func (c *fileCipher) decode(text []byte) iter.Seq2[*streamv1.StreamResponse, int64] {
	return func(yield func(*streamv1.StreamResponse, int64) bool) {
		rest, ok := bytes.CutPrefix(text, c.head)
		for number := uint64(0); ok && len(rest) >= recordHead+tagBytes; number++ {
			n := int64(binary.BigEndian.Uint32(rest))
			if n < nonceBytes+tagBytes || n > nonceBytes+maxRecord+tagBytes || int64(len(rest)-lengthBytes) < n {
				return
			}
			nonce, body := rest[lengthBytes:recordHead], rest[recordHead:lengthBytes+n]
			plain, err := c.aead.Open(body[:0], nonce, body, numbered(number))
			if err != nil {
				return
			}
			m := &streamv1.StreamResponse{}
			if proto.Unmarshal(plain, m) != nil || !yield(m, lengthBytes+n) {
				return
			}
			rest = rest[lengthBytes+n:]
		}
	}
}

func numbered(number uint64) []byte { return binary.BigEndian.AppendUint64(nil, number) }

// Files of builds before encryption begin with plainMagic. Their records are length, SHA-256 and message.
const (
	plainMagic = "GWSNAP01"
	plainHead  = lengthBytes + sha256.Size
)

// decodePlain yields whole records of such a file, with their sizes.
func decodePlain(text []byte) iter.Seq2[*streamv1.StreamResponse, int64] {
	return func(yield func(*streamv1.StreamResponse, int64) bool) {
		rest, ok := bytes.CutPrefix(text, []byte(plainMagic))
		for ok && len(rest) >= plainHead {
			n := int64(binary.BigEndian.Uint32(rest))
			if n > maxRecord || int64(len(rest)-plainHead) < n {
				return
			}
			body := rest[plainHead : plainHead+n]
			if sum := sha256.Sum256(body); !bytes.Equal(sum[:], rest[lengthBytes:plainHead]) {
				return
			}
			m := &streamv1.StreamResponse{}
			if proto.Unmarshal(body, m) != nil || !yield(m, plainHead+n) {
				return
			}
			rest = rest[plainHead+n:]
		}
	}
}
