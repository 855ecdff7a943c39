package webhooks

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"
)

const URL = "https://hooks.example.com/api/v1/app/acme/poller/warehouse/consumer/main"

var token = os.Getenv("TOKEN") // sk_poll_…

type Message struct {
	ID        string          `json:"id"`
	EventType string          `json:"eventType"`
	Payload   json.RawMessage `json:"payload"`
}

type Page struct {
	Data     []Message `json:"data"`
	Iterator string    `json:"iterator"`
}

// Fetch returns the next page. Passing a page's iterator confirms that the page is handled.
func Fetch(iterator string, wait int) (page Page, err error) {
	query := url.Values{"wait": {strconv.Itoa(wait)}}
	if iterator != "" {
		query.Set("iterator", iterator)
	}
	request, err := http.NewRequest("GET", URL+"?"+query.Encode(), nil)
	if err != nil {
		return page, err
	}
	request.Header.Set("authorization", "Bearer "+token)
	client := http.Client{Timeout: time.Duration(wait+10) * time.Second}
	response, err := client.Do(request)
	if err != nil {
		return page, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(response.Body, 1000))
		return page, fmt.Errorf("%s: %s", response.Status, body)
	}
	err = json.NewDecoder(response.Body).Decode(&page)
	return page, err
}

// Run stops at the first error. A crash repeats messages, so deduplicate them by ID.
func Run(handle func(Message) error) error {
	for iterator := ""; ; {
		page, err := Fetch(iterator, 20)
		if err != nil {
			return err
		}
		for _, message := range page.Data {
			if err := handle(message); err != nil {
				return err
			}
		}
		iterator = page.Iterator
	}
}
