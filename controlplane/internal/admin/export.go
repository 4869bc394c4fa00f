package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/config/file"
	"gateway.internal/shared/fault"
)

// partBytes is how much of resources goes into one part of a configuration: below the 4 MiB that clients of gRPC take,
// with the largest resource on top.
const partBytes = 1 << 20

// writeTimeout is how long a client may take for one part.
const writeTimeout = 30 * time.Second

// ExportConfiguration returns the configuration in one message.
func (s configurationService) ExportConfiguration(
	ctx context.Context, r *adminv1.ExportConfigurationRequest,
) (*adminv1.ExportConfigurationResponse, error) {
	v, err := s.versionAt(ctx, r.GetRevision())
	if err != nil {
		return nil, err
	}
	meta := &adminv1.ReplyMeta{Revision: v.Revision}
	reply := &adminv1.ExportConfigurationResponse{Configuration: file.Declarative(v.Config), Meta: meta}
	if n := proto.Size(reply); n > MaxRequestBytes {
		return nil, failure(fault.RequestTooLarge, fmt.Sprintf(
			"the configuration has %d MiB and does not fit into one message: StreamConfiguration sends it in parts", n>>20))
	}
	return reply, nil
}

// StreamConfiguration returns the configuration in parts.
func (s configurationService) StreamConfiguration(
	r *adminv1.StreamConfigurationRequest, stream grpc.ServerStreamingServer[adminv1.StreamConfigurationResponse],
) error {
	v, err := s.versionAt(stream.Context(), r.GetRevision())
	if err != nil {
		return err
	}
	meta := &adminv1.ReplyMeta{Revision: v.Revision}
	part, size, sent := &configv1.Configuration{}, 0, false
	for m := range file.All(v.Config) {
		n := proto.Size(m)
		if size > 0 && size+n > partBytes {
			if err := stream.Send(&adminv1.StreamConfigurationResponse{Configuration: part, Meta: meta}); err != nil {
				return err
			}
			part, size, sent = &configv1.Configuration{}, 0, true
		}
		file.Add(part, m)
		size += n
	}
	if size == 0 && sent {
		return nil
	}
	return stream.Send(&adminv1.StreamConfigurationResponse{Configuration: part, Meta: meta})
}

const exportPath = "/api/v1/config/export"

// export answers a REST call with a configuration of any size, which is written resource by resource.
func (s *Server) export(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	revision := uint64(0)
	if text := r.URL.Query().Get("revision"); text != "" {
		var err error
		if revision, err = strconv.ParseUint(text, 10, 32); err != nil {
			writeError(ctx, w, invalid("revision", text, "has to be a number from 1 to 4294967295"))
			return
		}
	}
	v, err := s.versionAt(ctx, uint32(revision))
	if err != nil {
		writeError(ctx, w, translate(ctx, s.log, err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	out := &parts{w: w, control: http.NewResponseController(w)}
	if out.configuration(ctx, v.Config, v.Revision); out.err != nil {
		panic(http.ErrAbortHandler) // what was written must not look whole
	}
}

// parts writes JSON, and gives the client some time for each part of it.
type parts struct {
	w       io.Writer
	control *http.ResponseController
	written int
	err     error
}

func (p *parts) write(b []byte) {
	if p.err != nil {
		return
	}
	if p.written -= len(b); p.written < 0 {
		p.written = partBytes
		_ = p.control.SetWriteDeadline(time.Now().Add(writeTimeout)) // where there is none, there is nothing to extend
	}
	_, p.err = p.w.Write(b)
}

// configuration writes the envelope with a list of each kind.
func (p *parts) configuration(ctx context.Context, c *config.Config, revision uint32) {
	fields := (&configv1.Configuration{}).ProtoReflect().Descriptor().Fields()
	p.write([]byte(`{"success":true,"data":{`))
	for i := range fields.Len() {
		f := fields.Get(i)
		if i > 0 {
			p.write([]byte(","))
		}
		p.write([]byte(strconv.Quote(string(f.Name())) + ":["))
		k, err := config.ParseKind(string(f.Name()))
		if err != nil {
			p.err = err
			return
		}
		first := true
		for m := range file.OfKind(c, k) {
			raw, err := messageJSON(m)
			if err != nil {
				p.err = err
				return
			}
			if !first {
				p.write([]byte(","))
			}
			first = false
			p.write(raw)
		}
		p.write([]byte("]"))
	}
	tail, err := json.Marshal(meta{Timestamp: time.Now().UTC(), RequestID: requestID(ctx), Version: "v1", Revision: revision})
	if err != nil {
		p.err = err
		return
	}
	p.write([]byte(`},"meta":`))
	p.write(append(tail, '}', '\n'))
}
