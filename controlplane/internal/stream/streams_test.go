package stream

import (
	"bytes"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/waittest"
)

// TestStreamsOfAConnectionAreBounded: one more than maxStreams is refused (RFC 9113 section 5.1.2), and there is room
// for it when another one has ended.
func TestStreamsOfAConnectionAreBounded(t *testing.T) {
	p := newPlane(t)
	conn, err := net.Dial("tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(waittest.Limit)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(conn, conn)
	announced, unanswered := uint32(0), 0
	settings := func() { // their acknowledgement tells that all before them was seen
		t.Helper()
		unanswered++
		if err := framer.WriteSettings(); err != nil {
			t.Fatal(err)
		}
	}
	settings()
	// opens opens a stream, and reports whether it is still there when the server has seen it.
	opens := func(id uint32) bool {
		t.Helper()
		var head bytes.Buffer
		encoder := hpack.NewEncoder(&head)
		for _, f := range [][2]string{
			{":method", "POST"}, {":scheme", "http"}, {":path", streamv1.SnapshotService_Stream_FullMethodName},
			{":authority", "x"}, {"content-type", "application/grpc"}, {"te", "trailers"}, {"authorization", "bearer " + token},
		} {
			if err := encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
				t.Fatal(err)
			}
		}
		if err := framer.WriteHeaders(http2.HeadersFrameParam{
			StreamID: id, BlockFragment: head.Bytes(), EndHeaders: true,
		}); err != nil {
			t.Fatal(err)
		}
		settings()
		refused := false
		for unanswered > 0 {
			f, err := framer.ReadFrame()
			if err != nil {
				t.Fatalf("waiting for the answer to stream %d: %v", id, err)
			}
			switch f := f.(type) {
			case *http2.SettingsFrame:
				if f.IsAck() {
					unanswered--
				} else if n, ok := f.Value(http2.SettingMaxConcurrentStreams); ok {
					announced = n
				}
			case *http2.RSTStreamFrame:
				if f.StreamID != id || f.ErrCode != http2.ErrCodeRefusedStream {
					t.Fatalf("stream %d: %v", id, f)
				}
				refused = true
			}
		}
		return !refused
	}
	for i := range uint32(maxStreams) {
		if !opens(2*i + 1) {
			t.Fatalf("stream %d of %d is refused", i+1, maxStreams)
		}
	}
	if opens(2*maxStreams + 1) {
		t.Errorf("stream %d is taken", maxStreams+1)
	}
	if announced != maxStreams {
		t.Errorf("the server announced %d streams", announced)
	}
	if err := framer.WriteRSTStream(1, http2.ErrCodeCancel); err != nil {
		t.Fatal(err)
	}
	if !opens(2*maxStreams + 3) {
		t.Error("when one has ended there is no room for another one")
	}
}
