package stream

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	encodingproto "google.golang.org/grpc/encoding/proto" // with gRPC's own codec
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// encoded is a serialised StreamResponse. All streams that send it share it, so that a node which does not read holds
// no copy of a snapshot, however many such nodes there are.
type encoded []byte

func encode(m *streamv1.StreamResponse) (encoded, error) {
	// A build that does not know a map keeps it as it comes, and hashes it so.
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("serialise what nodes are sent: %w", err)
	}
	return raw, nil
}

// codec is gRPC's, which sends what is encoded as it is.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(encodingproto.Name)} }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if e, ok := v.(encoded); ok {
		return mem.BufferSlice{mem.SliceBuffer(e)}, nil
	}
	return c.CodecV2.Marshal(v)
}
