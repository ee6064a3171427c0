// A plug-in for Ringway in Go: the lines of a growing CSV file, none of them lost.
//
// Ringway runs it as a sensor (input = "exec", protocol = "json", answers = true), reads lines of JSON from its
// standard output and writes answers to its standard input. The file is the queue: beside it stands how far everything
// is safe, and there it goes on after whoever died. A line of the file is "milliseconds,device,lat,lon,alarm"; the id
// of a report is where its line ends.
//
//	go build reader.go && ./reader readings.csv
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	inFlightMax = 100             // reports that were sent and are not answered
	patience    = 5 * time.Second // what is not answered by then is sent again
	lookEvery   = 100 * time.Millisecond
)

// What a report holds, as docs/schema/frame.schema.json has it.
type report struct {
	ID     int64    `json:"id"`
	Device string   `json:"device"`
	Time   int64    `json:"time"`
	Lat    float64  `json:"lat"`
	Lon    float64  `json:"lon"`
	Alarms []string `json:"alarms"`
}

type answer struct {
	Safe, Refused *int64
	Reason        string
}

// A line that was read and is not known to be safe with all before it.
type flying struct {
	end    int64
	text   []byte
	sentAt time.Time
	done   bool
}

func main() {
	log.SetFlags(0) // the log of Ringway has times
	path := os.Args[1]
	file, err := os.Open(path)
	check(err)
	safe := restored(path + ".safe")
	_, err = file.Seek(safe, io.SeekStart)
	check(err)
	answers := make(chan answer)
	go hear(answers)

	lines, end, part, sky := bufio.NewReader(file), safe, "", []*flying{}
	for {
		for len(sky) < inFlightMax {
			more, err := lines.ReadString('\n')
			if part += more; err != nil {
				break // the rest of the line is still to be written
			}
			end += int64(len(part))
			sky = append(sky, &flying{end: end, text: parsed(part, end)})
			part = ""
		}
		for _, line := range sky {
			if line.text == nil {
				line.done = true
			} else if !line.done && time.Since(line.sentAt) >= patience {
				line.sentAt = time.Now()
				_, err := os.Stdout.Write(line.text) // waits while Ringway has no room
				check(err)
			}
		}
		select {
		case given := <-answers:
			note(sky, given)
		case <-time.After(lookEvery):
		}
		before := safe
		for len(sky) > 0 && sky[0].done {
			safe, sky = sky[0].end, sky[1:]
		}
		if safe != before {
			store(path+".safe", safe)
		}
	}
}

// parsed turns a line of the file into a line for Ringway; nil if it is none.
func parsed(line string, end int64) []byte {
	fields := strings.Split(strings.TrimSpace(line), ",")
	if len(fields) != 5 {
		log.Printf("not five fields: %q", line)
		return nil
	}
	at, err1 := strconv.ParseInt(fields[0], 10, 64)
	lat, err2 := strconv.ParseFloat(fields[2], 64)
	lon, err3 := strconv.ParseFloat(fields[3], 64)
	if err1 != nil || err2 != nil || err3 != nil {
		log.Printf("not a reading: %q", line)
		return nil
	}
	alarms := []string{}
	if fields[4] != "" {
		alarms = append(alarms, fields[4])
	}
	text, err := json.Marshal(report{end, fields[1], at, lat, lon, alarms})
	check(err)
	return append(text, '\n')
}

// hear takes answers until Ringway closes the pipe.
func hear(answers chan<- answer) {
	for input := bufio.NewScanner(os.Stdin); input.Scan(); {
		var given answer
		check(json.Unmarshal(input.Bytes(), &given))
		answers <- given
	}
	os.Exit(0)
}

// note marks what an answer is about. {"again": ...} is about nothing yet: it is sent again when its time has come.
func note(sky []*flying, given answer) {
	if given.Refused != nil {
		// A mistake of ours, which no repetition mends.
		log.Printf("refused: %d: %s", *given.Refused, given.Reason)
		given.Safe = given.Refused
	}
	for _, line := range sky {
		if given.Safe != nil && line.end == *given.Safe {
			line.done = true
		}
	}
}

// restored says how far everything was safe.
func restored(path string) int64 {
	text, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return 0
	}
	check(err)
	var end int64
	if _, err = fmt.Sscan(string(text), &end); err != nil {
		// A power cut may leave an empty file. From the start, then: Ringway drops what it knows.
		log.Printf("nothing in %s: %v; starting over", path, err)
	}
	return end
}

// store puts a whole new file in the place of the old one: there is never half of one. One that a power cut takes back
// costs a few repeats, which Ringway drops.
func store(path string, end int64) {
	check(os.WriteFile(path+".new", []byte(fmt.Sprintln(end)), 0o644))
	check(os.Rename(path+".new", path))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
