package requestvalidation

import (
	"encoding/json"
	"net/http"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/fault"
	"gateway.internal/shared/validation"
)

// details are the problem details of a refusal (RFC 9457), with the members that it has besides.
type details struct {
	Title     string      `json:"title"`
	Status    int         `json:"status"`
	Detail    string      `json:"detail"`
	Code      fault.Code  `json:"code"`
	RequestID string      `json:"request_id"`
	Errors    []violation `json:"errors,omitempty"`
}

// violation is one thing that is wrong, in the form of RFC 9457's own example, section 3.
type violation struct {
	Detail string `json:"detail"`
	// Pointer is a JSON pointer into the body, as a fragment.
	Pointer *string `json:"pointer,omitempty"`
	// Parameter and In name a parameter.
	Parameter string `json:"parameter,omitempty"`
	In        string `json:"in"`
}

// problem answers with problem details; calls of gRPC get their own form of errors.
func problem(x *exchange.Exchange, code fault.Code, status int, detail string, list []validation.Violation) {
	if x.RPC != exchange.NoRPC {
		x.FailStatus(code, status, detail)
		return
	}
	d := details{
		Title: http.StatusText(status), Status: status, Detail: detail, Code: code, RequestID: x.ID,
		Errors: make([]violation, 0, len(list)),
	}
	for _, w := range list[:min(len(list), validation.MaxViolations)] {
		v := violation{Detail: w.Detail, Parameter: w.Name, In: w.In}
		if w.In == "body" || w.Pointer != "" {
			at := "#" + w.Pointer
			v.Pointer = &at
		}
		d.Errors = append(d.Errors, v)
	}
	body, err := json.Marshal(d)
	if err != nil {
		x.FailStatus(code, status, detail)
		return
	}
	x.Answer(status, "application/problem+json", append(body, '\n'))
	x.Response.Code, x.Response.Message = code, detail
}
