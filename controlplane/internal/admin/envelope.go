package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/fault"
	"gateway.internal/shared/reason"
)

// envelope is the shape of every reply. Members that say nothing are left out.
type envelope struct {
	Success bool            `json:"success"`
	Data    json.RawMessage `json:"data,omitempty"`
	Error   *errorBody      `json:"error,omitempty"`
	Meta    meta            `json:"meta"`
}

type errorBody struct {
	Code    string            `json:"code"`
	Message string            `json:"message"`
	Field   string            `json:"field,omitempty"`
	Details []json.RawMessage `json:"details,omitempty"`
	Current uint32            `json:"current_version,omitempty"`
	After   uint32            `json:"retry_after_seconds,omitempty"`
}

type meta struct {
	Timestamp time.Time         `json:"timestamp"`
	RequestID string            `json:"request_id"`
	Version   string            `json:"version"`
	Revision  uint32            `json:"revision,omitempty"`
	Total     *uint32           `json:"total,omitempty"`
	Page      uint32            `json:"page,omitempty"`
	PerPage   uint32            `json:"per_page,omitempty"`
	Warnings  []json.RawMessage `json:"warnings,omitempty"`
	Created   bool              `json:"created,omitempty"`
}

var output = protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}

// envelopeOf wraps a reply: its one field besides meta is the data, or an object of them when there are more.
func envelopeOf(ctx context.Context, reply proto.Message) (any, error) {
	e := envelope{Success: true, Meta: meta{Timestamp: time.Now().UTC(), RequestID: requestID(ctx), Version: "v1"}}
	m := reply.ProtoReflect()
	fields := m.Descriptor().Fields()
	parts := map[string]json.RawMessage{}
	for i := range fields.Len() {
		f := fields.Get(i)
		if f.Name() == "meta" {
			continue
		}
		raw, err := fieldJSON(m, f)
		if err != nil {
			return nil, err
		}
		parts[string(f.Name())] = raw
		e.Data = raw
	}
	if len(parts) > 1 {
		var err error
		if e.Data, err = json.Marshal(parts); err != nil {
			return nil, err
		}
	}
	if r, ok := reply.(interface{ GetMeta() *adminv1.ReplyMeta }); ok {
		rm := r.GetMeta()
		e.Meta.Revision, e.Meta.Page, e.Meta.PerPage, e.Meta.Created = rm.GetRevision(), rm.GetPage(),
			rm.GetPerPage(), rm.GetCreated()
		if rm.GetPage() > 0 || rm.GetTotal() > 0 {
			total := rm.GetTotal()
			e.Meta.Total = &total
		}
		for _, w := range rm.GetWarnings() {
			raw, err := output.Marshal(w)
			if err != nil {
				return nil, err
			}
			e.Meta.Warnings = append(e.Meta.Warnings, raw)
		}
	}
	return e, nil
}

func elementJSON(v protoreflect.Value, f protoreflect.FieldDescriptor) ([]byte, error) {
	if f.Kind() != protoreflect.MessageKind {
		return json.Marshal(v.Interface())
	}
	return messageJSON(v.Message().Interface())
}

func fieldJSON(m protoreflect.Message, f protoreflect.FieldDescriptor) (json.RawMessage, error) {
	if f.IsList() {
		list := m.Get(f).List()
		parts := make([]json.RawMessage, list.Len())
		for i := range parts {
			raw, err := elementJSON(list.Get(i), f)
			if err != nil {
				return nil, err
			}
			parts[i] = raw
		}
		return json.Marshal(parts)
	}
	if f.Kind() == protoreflect.MessageKind {
		if !m.Has(f) {
			return json.RawMessage("null"), nil
		}
		return messageJSON(m.Get(f).Message().Interface())
	}
	return json.Marshal(m.Get(f).Interface())
}

// absentKey is a certificate's key as protobuf's JSON has it in replies, where it is never said. Quotes within
// strings are escaped.
var absentKey = regexp.MustCompile(`"key_pem": ?"", ?`)

func messageJSON(m proto.Message) (json.RawMessage, error) {
	raw, err := output.Marshal(m)
	switch m.(type) {
	case *configv1.Certificate, *configv1.Configuration:
		raw = absentKey.ReplaceAllLiteral(raw, nil)
	}
	return raw, err
}

// marshaler reads requests strictly and writes envelopes.
type marshaler struct{ runtime.JSONPb }

func newMarshaler() *marshaler {
	return &marshaler{runtime.JSONPb{
		MarshalOptions: output, UnmarshalOptions: protojson.UnmarshalOptions{DiscardUnknown: false},
	}}
}

// Marshal implements runtime.Marshaler.
func (m *marshaler) Marshal(v any) ([]byte, error) {
	if e, ok := v.(envelope); ok {
		b, err := json.Marshal(e)
		return append(b, '\n'), err
	}
	return m.JSONPb.Marshal(v)
}

// setHeaders gives replies with one resource their ETag, and creations 201 with Location.
func setHeaders(ctx context.Context, w http.ResponseWriter, reply proto.Message) error {
	callerOf(ctx).browser.writeCookie(w)
	m := reply.ProtoReflect()
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if f.IsList() || f.Kind() != protoreflect.MessageKind || !m.Has(f) {
			continue
		}
		one := m.Get(f).Message().Interface()
		r, ok := one.(interface{ GetId() string })
		if !ok {
			continue
		}
		if v, ok := one.(interface{ GetVersion() uint32 }); ok {
			w.Header().Set("ETag", strconv.Quote(itoa(int(v.GetVersion()))))
		}
		method, _ := runtime.RPCMethod(ctx)
		updated, _ := reply.(interface{ GetMeta() *adminv1.ReplyMeta })
		if strings.Contains(method, "/Create") || updated != nil && updated.GetMeta().GetCreated() {
			if pattern, ok := runtime.HTTPPathPattern(ctx); ok {
				w.Header().Set("Location", strings.TrimSuffix(pattern, "/{id}")+"/"+r.GetId())
			}
			w.WriteHeader(http.StatusCreated)
		}
	}
	return nil
}

// writeError writes an error's envelope.
func writeError(ctx context.Context, w http.ResponseWriter, err error) {
	d, ok := errorOf(err)
	if !ok {
		d = detailOf(err)
	}
	body := &errorBody{Code: d.GetCode(), Message: d.GetMessage(), Field: d.GetField(), Current: d.GetCurrentVersion(),
		After: d.GetRetryAfterSeconds()}
	for _, p := range d.GetProblems() {
		if raw, err := output.Marshal(p); err == nil {
			body.Details = append(body.Details, raw)
		}
	}
	code := fault.Code(d.GetCode())
	switch code {
	case fault.StoreUnavailable:
		w.Header().Set("Retry-After", "2")
	case fault.RateLimited:
		w.Header().Set("Retry-After", itoa(int(d.GetRetryAfterSeconds())))
	case fault.Unauthenticated:
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code.HTTP())
	_ = json.NewEncoder(w).Encode(envelope{Error: body, Meta: meta{Timestamp: time.Now().UTC(),
		RequestID: requestID(ctx), Version: "v1"}})
}

// brokenOff tells an error that came instead of the answer to a change from those that say that nothing was changed.
func brokenOff(r *http.Request, err error) error {
	if _, said := errorOf(err); said || status.Code(err) != codes.Unavailable || r.Method == http.MethodGet ||
		r.Method == http.MethodHead {
		return err
	}
	return failure(fault.OutcomeUnknown,
		"the call broke off before its answer; look at the revisions before you repeat the change")
}

// detailOf describes errors that are not of the API: those of reading a request, and of gRPC itself.
func detailOf(err error) *adminv1.ErrorDetail {
	s := status.Convert(err)
	message := reason.Text(s.Message())
	d := &adminv1.ErrorDetail{Code: string(fault.Internal), Message: message}
	switch s.Code() {
	case codes.InvalidArgument:
		d.Code = string(fault.InvalidArgument)
		if m := unknownField.FindStringSubmatch(message); m != nil {
			d.Field = m[1]
			d.Message = fmt.Sprintf("there is no field %q%s", m[1], m[2])
		}
	case codes.ResourceExhausted:
		d.Code = string(fault.RequestTooLarge)
	case codes.NotFound:
		d.Code = string(fault.NotFound)
	case codes.Unimplemented:
		d.Code = string(fault.NotImplemented)
	case codes.Unavailable:
		d.Code = string(fault.StoreUnavailable)
	case codes.DeadlineExceeded, codes.Canceled:
		d.Code = string(fault.DeadlineExceeded)
	}
	return d
}
