package exchange

import (
	"time"

	"gateway.internal/shared/fault"
)

// Fail sets an error of the gateway as the response: the envelope
//
//	{"success":false,"error":{"code","message","service","route","details","timestamp"},"request_id","timestamp"}
//
// with the code's HTTP status; gRPC clients get the code's grpc-status. The message is for the client: it must not
// carry secrets or internal addresses.
func (x *Exchange) Fail(code fault.Code, message string) {
	x.FailStatus(code, code.HTTP(), message)
}

// FailStatus is Fail with another status than the code's own.
func (x *Exchange) FailStatus(code fault.Code, status int, message string) {
	if x.RPC != NoRPC {
		x.failRPC(code, message)
		return
	}
	b := x.body[:0]
	now := time.Now().UTC()
	b = append(b, `{"success":false,"error":{"code":"`...)
	b = append(b, code...)
	b = append(b, `","message":`...)
	b = appendJSONString(b, message)
	b = append(b, `,"service":`...)
	b = appendJSONString(b, x.Service)
	b = append(b, `,"route":`...)
	b = appendJSONString(b, x.Route)
	b = append(b, `,"details":null,"timestamp":"`...)
	b = now.AppendFormat(b, time.RFC3339Nano)
	b = append(b, `"},"request_id":`...)
	b = appendJSONString(b, x.ID)
	b = append(b, `,"timestamp":"`...)
	b = now.AppendFormat(b, time.RFC3339Nano)
	b = append(b, "\"}\n"...)
	x.Answer(status, "application/json", b)
	x.Response.Code, x.Response.Message = code, message
}

// appendJSONString appends s as a JSON string. Bytes that are not printable ASCII are written as U+FFFD escapes:
// what can come here is field content and configured names, and a reader must not be led astray by either.
func appendJSONString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < 0x20 || c >= 0x7f:
			b = append(b, `\ufffd`...)
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}
