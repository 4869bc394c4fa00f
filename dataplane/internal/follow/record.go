package follow

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"google.golang.org/protobuf/proto"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// The last good snapshot is one file: a magic with the format's version, a full snapshot, and then what has changed since, each
// as a record of length, SHA-256 and message.

const (
	magic      = "GWSNAP01"
	recordHead = 4 + sha256.Size
	// maxRecord is the largest record that is written and read.
	maxRecord = 1 << 30
)

// decodeRecords reads whole records from the start of a file's text.
func decodeRecords(text []byte) (records []*streamv1.StreamResponse, sizes []int64) {
	rest, ok := bytes.CutPrefix(text, []byte(magic))
	if !ok {
		return nil, nil
	}
	for len(rest) >= recordHead {
		n := int64(binary.BigEndian.Uint32(rest))
		if n > maxRecord || int64(len(rest)-recordHead) < n {
			break
		}
		body := rest[recordHead : recordHead+n]
		if sum := sha256.Sum256(body); !bytes.Equal(sum[:], rest[4:recordHead]) {
			break
		}
		m := &streamv1.StreamResponse{}
		if proto.Unmarshal(body, m) != nil {
			break
		}
		records = append(records, m)
		sizes = append(sizes, recordHead+n)
		rest = rest[recordHead+n:]
	}
	return records, sizes
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
