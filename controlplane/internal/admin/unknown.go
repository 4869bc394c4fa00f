package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"gateway.internal/shared/suggest"
)

// unknownField finds in protobuf's words, perhaps with what near adds to them, a field that a body has and its
// message has not.
var unknownField = regexp.MustCompile(`unknown field "([^"]*)"(; did you mean "[^"]*"\?)?`)

// placeOfError is where in its JSON protobuf says that something is wrong.
var placeOfError = regexp.MustCompile(`\(line (\d+):(\d+)\)`)

// NewDecoder implements runtime.Marshaler.
func (m *marshaler) NewDecoder(r io.Reader) runtime.Decoder {
	return runtime.DecoderFunc(func(v any) error {
		body, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		body = bytes.TrimSpace(body)
		if err = m.JSONPb.NewDecoder(bytes.NewReader(body)).Decode(v); err == nil {
			return nil
		}
		unknown, place := unknownField.FindStringSubmatch(err.Error()), placeOfError.FindStringSubmatch(err.Error())
		if d := descriptorOf(v); d != nil && unknown != nil && place != nil {
			known := fieldsOf(descriptorAt(d, body, offsetOf(body, place)))
			return fmt.Errorf("%w%s", err, suggest.Hint(unknown[1], slices.Values(known)))
		}
		return err
	})
}

// descriptorOf returns that of a message, or of what a pointer to one points to; nil for all else.
func descriptorOf(v any) protoreflect.MessageDescriptor {
	m, ok := v.(proto.Message)
	if t := reflect.TypeOf(v); !ok && t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Pointer {
		m, ok = reflect.New(t.Elem().Elem()).Interface().(proto.Message)
	}
	if !ok {
		return nil
	}
	return m.ProtoReflect().Descriptor()
}

// offsetOf returns where a line and a column, which counts characters, are in a text.
func offsetOf(text []byte, place []string) int64 {
	line, _ := strconv.Atoi(place[1])
	column, _ := strconv.Atoi(place[2])
	at := 0
	for range line - 1 {
		at += bytes.IndexByte(text[at:], '\n') + 1
	}
	for i := range string(text[at:]) {
		if column--; column <= 0 {
			return int64(at + i)
		}
	}
	return int64(len(text))
}

// descriptorAt returns that of the message whose field stands at an offset of the JSON of a message.
func descriptorAt(d protoreflect.MessageDescriptor, text []byte, offset int64) protoreflect.MessageDescriptor {
	dec := json.NewDecoder(bytes.NewReader(text))
	stack := []protoreflect.MessageDescriptor{} // of the objects and lists around; nil: of what has no fields
	inner, isKey, isList := d, false, []bool{}
	for {
		token, err := dec.Token()
		if err != nil {
			return d
		}
		switch token := token.(type) {
		case json.Delim:
			switch token {
			case '{', '[':
				stack, isList = append(stack, inner), append(isList, token == '[')
				isKey = token == '{'
				continue
			}
			stack, isList = stack[:len(stack)-1], isList[:len(isList)-1]
		case string:
			if isKey {
				at := stack[len(stack)-1]
				if dec.InputOffset() > offset {
					if at == nil {
						return d
					}
					return at
				}
				inner, isKey = nil, false
				if at != nil {
					if f := fieldByJSON(at, token); f != nil && !f.IsMap() {
						inner = f.Message()
					}
				}
				continue
			}
		}
		if len(stack) == 0 {
			return d
		}
		if isKey = !isList[len(isList)-1]; !isKey {
			inner = stack[len(stack)-1]
		}
	}
}
