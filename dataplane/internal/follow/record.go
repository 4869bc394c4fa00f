package follow

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"iter"

	"google.golang.org/protobuf/proto"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// A journal is a magic with the format's version, something whole, and then what has changed since, each as a record of
// length, SHA-256 and message. There are two: the last good snapshot, which has the configuration and the endpoints,
// and the consumers.

const (
	magic      = "GWSNAP01"
	recordHead = 4 + sha256.Size
	// maxRecord is the largest record that is written and read.
	maxRecord = 1 << 30
)

// decodeRecords yields whole records from the start of a file's text, with their sizes.
func decodeRecords(text []byte) iter.Seq2[*streamv1.StreamResponse, int64] {
	return func(yield func(*streamv1.StreamResponse, int64) bool) {
		rest, ok := bytes.CutPrefix(text, []byte(magic))
		for ok && len(rest) >= recordHead {
			n := int64(binary.BigEndian.Uint32(rest))
			if n > maxRecord || int64(len(rest)-recordHead) < n {
				return
			}
			body := rest[recordHead : recordHead+n]
			if sum := sha256.Sum256(body); !bytes.Equal(sum[:], rest[4:recordHead]) {
				return
			}
			m := &streamv1.StreamResponse{}
			if proto.Unmarshal(body, m) != nil || !yield(m, recordHead+n) {
				return
			}
			rest = rest[recordHead+n:]
		}
	}
}

func encodeRecord(m *streamv1.StreamResponse) ([]byte, error) {
	size := proto.Size(m)
	if size > maxRecord {
		return nil, fmt.Errorf("it has %d bytes, at most %d can be kept", size, maxRecord)
	}
	b := make([]byte, recordHead, recordHead+size)
	b, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(b, m)
	if err != nil {
		return nil, err
	}
	body := b[recordHead:]
	binary.BigEndian.PutUint32(b, uint32(len(body)))
	sum := sha256.Sum256(body)
	copy(b[4:], sum[:])
	return b, nil
}
