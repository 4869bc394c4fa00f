package admin

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"google.golang.org/grpc/metadata"

	"gateway.internal/controlplane/internal/access"
)

const (
	// maxMessage and maxAuthor are in characters.
	maxMessage = 1000
	maxAuthor  = 200
)

// Metadata of gRPC is ASCII, but for fields whose names end in "-bin": who made a change, and why, is in those where it
// is not.
const (
	authorField  = "gateway-author"
	messageField = "gateway-message"
	binary       = "-bin"
)

func checkTexts(message, author string) error {
	if err := checkText("message", message, maxMessage); err != nil {
		return err
	}
	return checkAuthor("author", author)
}

// checkAuthor refuses an author that would not be shown as one word among others in one line.
func checkAuthor(name, author string) error {
	if strings.ContainsFunc(author, unicode.IsControl) {
		return invalid(name, author, "has line ends or other control characters; it is one line")
	}
	return checkText(name, author, maxAuthor)
}

// checkText refuses a text that is too long, or that is none.
func checkText(name, text string, limit int) error {
	if !utf8.ValidString(text) {
		return invalid(name, "", "has to be UTF-8")
	}
	if n := utf8.RuneCountInString(text); n > limit {
		return invalid(name, "", fmt.Sprintf("has %d characters; %d are allowed", n, limit))
	}
	return nil
}

// author returns who makes a call: the token's name. The administrator's own token is no person's, so that its holder
// may say on whose behalf the call is made: said, or in the metadata.
func author(ctx context.Context, said ...string) string {
	id := access.Of(ctx)
	if id == nil || id.Method == access.Administrator {
		for _, text := range append(said, textFrom(ctx, authorField)) {
			if text != "" {
				return text
			}
		}
		return "admin"
	}
	return id.Name
}

// message returns why a call is made, if it says so.
func message(ctx context.Context) string { return textFrom(ctx, messageField) }

func textFrom(ctx context.Context, field string) string {
	md, _ := metadata.FromIncomingContext(ctx)
	for _, name := range []string{field + binary, field} {
		if v := md.Get(name); len(v) > 0 && v[0] != "" {
			return v[0]
		}
	}
	return ""
}

// checkTextsOf refuses a call whose metadata has texts that could not be kept.
func checkTextsOf(ctx context.Context) error {
	if err := checkText("Gateway-Message", message(ctx), maxMessage); err != nil {
		return err
	}
	return checkAuthor("Gateway-Author", textFrom(ctx, authorField))
}

// passTexts makes metadata of the header fields with author and message, which are UTF-8 as it is, or percent-encoded
// as RFC 8187 section 3.2 has it: "UTF-8”Gr%C3%BC%C3%9Fe", for clients whose fields are ASCII.
func passTexts(h http.Header) error {
	for _, name := range []string{"Gateway-Author", "Gateway-Message"} {
		h.Del(name + "-Bin")
		text := h.Get(name)
		if text == "" {
			continue
		}
		if charset, rest, ok := strings.Cut(text, "'"); ok && strings.EqualFold(charset, "UTF-8") {
			_, encoded, ok := strings.Cut(rest, "'")
			decoded, err := url.PathUnescape(encoded)
			if !ok || err != nil {
				return invalid(name, "", `begins with "UTF-8'" and is not percent-encoded like UTF-8''Gr%C3%BC%C3%9Fe (RFC 8187)`)
			}
			text = decoded
		}
		if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
			return invalid(name, "", "has to be UTF-8 without control characters")
		}
		h.Del(name)
		h.Set(name+"-Bin", base64.StdEncoding.EncodeToString([]byte(text)))
	}
	return nil
}
