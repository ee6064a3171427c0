//! What each process counts.
//!
//! A name belongs to one process. Entries of one name stand together, with the same help, and differ in the label. Never
//! a device id as a label: their number has no bound.

use super::{Definition, Kind, Metric, Owner, PAGE_BYTES, table_words, word};
use crate::role::Role;
use crate::sys::region::WORD_BYTES;

macro_rules! metrics {
    ($doc:literal $metric:ident of $owner:expr;
     $($name:literal $kind:ident $help:literal {
         $($variant:ident $($key:literal = $value:literal)?,)*
     })*) => {
        #[doc = $doc]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $metric {
            $($(#[doc = $help] $(#[doc = concat!("\n\n", $key, ": ", $value)])? $variant,)*)*
        }

        impl Metric for $metric {
            const OWNER: Owner = $owner;
            const TABLE: &'static [Definition] = &[
                $($(Definition {
                    name: $name,
                    help: $help,
                    kind: Kind::$kind,
                    label: metrics!(@label $($key $value)?),
                },)*)*
            ];

            fn index(self) -> usize {
                self as usize
            }
        }

        const _: () = assert!(
            (word::VALUES + table_words($metric::TABLE)) * WORD_BYTES <= PAGE_BYTES,
            "a table fits its page"
        );
    };
    (@label) => { None };
    (@label $key:literal $value:literal) => { Some(($key, $value)) };
}

metrics! {
    "What the supervisor counts."
    SupervisorMetric of Owner::Supervisor;
    "ringway_children" Gauge "Children that run." { Children, }
    "ringway_restarts_total" Counter "Children started again, by role." {
        RestartsIngest "of" = "ingest",
        RestartsClassifier "of" = "classifier",
        RestartsDispatcher "of" = "dispatcher",
        RestartsUplink "of" = "uplink",
        RestartsObserver "of" = "observer",
    }
    "ringway_program_restarts_total" Counter "Programs of `exec` sensors started again." { ProgramRestarts, }
    "ringway_rings_replaced_total" Counter "Rings given up after a violation or impossible positions." { RingsReplaced, }
}

metrics! {
    "What an ingest counts."
    IngestMetric of Owner::Child(Role::Ingest);
    "ringway_sensor_protocol" Gauge "1 for the protocol that the sensor speaks." {
        SpeaksJt808 "protocol" = "jt808",
        SpeaksTeltonika "protocol" = "teltonika",
        SpeaksGt06 "protocol" = "gt06",
        SpeaksH02 "protocol" = "h02",
        SpeaksNmea "protocol" = "nmea",
        SpeaksUbx "protocol" = "ubx",
        SpeaksGpsd "protocol" = "gpsd",
        SpeaksOsmand "protocol" = "osmand",
        SpeaksGl200 "protocol" = "gl200",
        SpeaksTk103 "protocol" = "tk103",
        SpeaksGps103 "protocol" = "gps103",
        SpeaksMeitrack "protocol" = "meitrack",
        SpeaksRuptela "protocol" = "ruptela",
        SpeaksJson "protocol" = "json",
        SpeaksAuto "protocol" = "auto",
    }
    "ringway_connections" Gauge "Connections open now; of `udp`, peers known." { ConnectionsOpen, }
    "ringway_connections_accepted_total" Counter "Connections accepted; of `udp`, peers not known before." { ConnectionsAccepted, }
    "ringway_connections_delayed_total" Counter "Connections not read at once, since rubbish came from their address." { ConnectionsDelayed, }
    "ringway_connections_unproven" Gauge "Connections of which no sound message of a known device came yet." { ConnectionsUnproven, }
    "ringway_connections_turned_away_total" Counter "Connections closed before a byte was read, by reason." {
        TurnedAwaySource "reason" = "source",
        TurnedAwayPerSource "reason" = "per_source",
    }
    "ringway_accept_pauses_total" Counter "Times that accepting paused because there was no room." { AcceptPauses, }
    "ringway_connections_closed_total" Counter "Connections closed, peers forgotten, by reason." {
        ClosedByPeer "reason" = "peer",
        ClosedIdle "reason" = "idle",
        ClosedErrors "reason" = "errors",
        ClosedUnread "reason" = "unread",
        ClosedRefused "reason" = "refused",
        ClosedDisplaced "reason" = "displaced",
        ClosedNoMessage "reason" = "no_message",
        ClosedSlow "reason" = "slow",
        ClosedGaveWay "reason" = "gave_way",
        ClosedUnknown "reason" = "unknown",
        ClosedTakenOver "reason" = "taken_over",
        ClosedOccupied "reason" = "occupied",
        ClosedTls "reason" = "tls",
        ClosedDrain "reason" = "drain",
    }
    "ringway_tls_handshakes_total" Counter "TLS handshakes finished." { TlsHandshakes, }
    "ringway_tls_failures_total" Counter "Connections ended by TLS, by reason." {
        TlsPlainText "reason" = "plain_text",
        TlsIncompatible "reason" = "incompatible",
        TlsNoCertificate "reason" = "no_certificate",
        TlsUnknownAuthority "reason" = "unknown_authority",
        TlsExpired "reason" = "expired",
        TlsCertificate "reason" = "certificate",
        TlsIdentity "reason" = "identity",
        TlsAlert "reason" = "alert",
        TlsBroken "reason" = "broken",
        TlsTooLong "reason" = "too_long",
        TlsLate "reason" = "late",
        TlsLeft "reason" = "left",
    }
    "ringway_tls_certificate_expires_timestamp_seconds" Gauge "When the certificate of the sensor ends, since 1970; 0: it has none." { TlsExpires, }
    "ringway_feed_open" Gauge "1 while the sensor's feed is open." { FeedOpen, }
    "ringway_feeds_opened_total" Counter "Feeds taken: the first one, and one each time that it was opened again." { FeedsOpened, }
    "ringway_feeds_ended_total" Counter "Feeds that ended, by reason." {
        FeedClosed "reason" = "closed",
        FeedBroken "reason" = "broken",
        FeedUnreadable "reason" = "unreadable",
        FeedStalled "reason" = "stalled",
    }
    "ringway_received_bytes_total" Counter "Bytes received." { Bytes, }
    "ringway_datagrams_total" Counter "Datagrams received." { Datagrams, }
    "ringway_datagrams_dropped_total" Counter "Datagrams dropped unread, by reason." {
        DatagramsKernel "reason" = "kernel",
        DatagramsDelayed "reason" = "delayed",
        DatagramsSource "reason" = "source",
    }
    "ringway_messages_total" Counter "Messages decoded." { Messages, }
    "ringway_frames_published_total" Counter "Frames committed to the ring." { FramesPublished, }
    "ringway_messages_refused_total" Counter "Messages, or runs of bytes that are none, not taken, by reason." {
        RefusedChecksum "reason" = "checksum",
        RefusedLength "reason" = "length",
        RefusedTooLong "reason" = "too_long",
        RefusedRubbish "reason" = "rubbish",
        RefusedEscape "reason" = "escape",
        RefusedUnknownKind "reason" = "unknown_kind",
        RefusedDevice "reason" = "device",
        RefusedField "reason" = "field",
        RefusedEncrypted "reason" = "encrypted",
        RefusedPart "reason" = "part",
        RefusedIncomplete "reason" = "incomplete",
    }
    "ringway_stalls_total" Counter "Times that reading stopped for want of room, by what was full." {
        StalledRing "reason" = "ring",
        StalledAnswers "reason" = "answers",
    }
    "ringway_messages_dropped_total" Counter "Messages of `udp` dropped, by what was full or exceeded." {
        DroppedRing "reason" = "ring",
        DroppedAnswers "reason" = "answers",
        DroppedRate "reason" = "rate",
    }
    "ringway_devices_listed" Gauge "Devices on the list of known ones." { DevicesListed, }
    "ringway_messages_unknown_total" Counter "Messages of devices that are not on the list, by what became of them." {
        UnknownReject "outcome" = "rejected",
        UnknownQuarantine "outcome" = "quarantined",
        UnknownAccept "outcome" = "accepted",
    }
    "ringway_sessions_taken_over_total" Counter "Sessions of devices that came by another connection." { SessionsTakenOver, }
    "ringway_sessions_contested_total" Counter "Take-overs that had to wait because there were too many of one device." { SessionsContested, }
    "ringway_rests_total" Counter "Times that a connection was not read because it, or its device, had sent too much." { Rests, }
    "ringway_capture_records_total" Counter "Records of a recording, by what became of them." {
        CaptureKept "fate" = "kept",
        CaptureLost "fate" = "lost",
    }
    "ringway_captures_failed_total" Counter "Recordings that ended because their file could not be written." { CapturesFailed, }
    "ringway_attributes_cut_total" Counter "Attributes that did not fit their frame." { AttributesCut, }
    "ringway_answers_total" Counter "Messages that awaited an answer, by what came of it." {
        AnswersAccepted "outcome" = "accepted",
        AnswersRefused "outcome" = "refused",
        AnswersAbandoned "outcome" = "abandoned",
        AnswersLapsed "outcome" = "lapsed",
    }
    "ringway_answers_withheld_total" Counter "Answers not sent, by reason." {
        WithheldLonger "reason" = "longer",
        WithheldUnsent "reason" = "unsent",
    }
    "ringway_answers_pending" Gauge "Messages that await their outcome." { AnswersPending, }
}

metrics! {
    "What the classifier counts."
    ClassifierMetric of Owner::Child(Role::Classifier);
    "ringway_frames_total" Counter "Frames taken from the sensor rings." { Frames, }
    "ringway_frames_rejected_total" Counter "Frames that moved nothing, by reason." {
        RejectedDuplicate "reason" = "duplicate",
        RejectedLate "reason" = "late",
        RejectedJump "reason" = "jump",
        RejectedInvalid "reason" = "invalid",
        RejectedFuture "reason" = "future",
        RejectedOutranked "reason" = "outranked",
        RejectedOutOfRange "reason" = "out_of_range",
        RejectedNotApplied "reason" = "not_applied",
        RejectedTableFull "reason" = "table_full",
        RejectedBadFrame "reason" = "bad_frame",
    }
    "ringway_frames_redelivered_total" Counter "Frames that were applied before a restart and came again." { Redelivered, }
    "ringway_fail_overs_total" Counter "Times that another receiver of a vehicle was used from then on, by its rank beside the former's." {
        FailOversWorse "to" = "worse",
        FailOversBetter "to" = "better",
    }
    "ringway_ring_violations_total" Counter "Sensor rings quarantined because their producer broke the rules." { RingViolations, }
    "ringway_messages_settled_total" Counter "Messages whose outcome was set, by outcome." {
        SettledAccepted "outcome" = "accepted",
        SettledRefused "outcome" = "refused",
    }
    "ringway_tracks_passed_total" Counter "Track updates committed to the dispatcher's ring." { TracksPassed, }
    "ringway_track_ring_full_total" Counter "Updates left to a resync because the dispatcher's ring was full." { TrackRingFull, }
    "ringway_events_total" Counter "Events found, by phase." {
        EventsRaised "phase" = "raise",
        EventsCleared "phase" = "clear",
    }
    "ringway_events_late_total" Counter "Events found in late fixes." { EventsLate, }
    "ringway_alarms_over_limit_total" Counter "Alarms that found no room because more are open than a device may have; their messages are refused." { AlarmsOverLimit, }
    "ringway_events_owed" Gauge "Events that the uplink has not accepted yet." { EventsOwed, }
    "ringway_alarm_ring_full_total" Counter "Events that found the uplink's ring full." { AlarmRingFull, }
    "ringway_devices" Gauge "Devices in the state table." { Devices, }
}

metrics! {
    "What the dispatcher counts."
    DispatcherMetric of Owner::Child(Role::Dispatcher);
    "ringway_tracks_total" Counter "Track updates taken from the ring." { Tracks, }
    "ringway_alarms_seen_total" Counter "Alarm events taken from the ring." { Alarms, }
    "ringway_dispatcher_bad_records_total" Counter "Records that did not parse." { BadRecords, }
    "ringway_vehicles" Gauge "Vehicles in the live view." { Vehicles, }
    "ringway_subscribers" Gauge "Subscribers now." { Subscribers, }
    "ringway_subscribers_refused_total" Counter "Subscribers refused because there were too many." { SubscribersRefused, }
    "ringway_subscribers_cut_off_total" Counter "Subscribers cut off because they took nothing for too long." { SubscribersCutOff, }
    "ringway_updates_pushed_total" Counter "Updates written to subscribers." { Pushed, }
    "ringway_updates_conflated_total" Counter "Updates that a subscriber skipped for a later one of the same vehicle." { Conflated, }
    "ringway_resyncs_total" Counter "Times that the state table was read in whole." { Resyncs, }
    "ringway_requests_total" Counter "HTTP requests answered." { Requests, }
    "ringway_freshness_seconds" Histogram "From the last byte received to the push." { Freshness, }
    "ringway_dispatcher_trace_records_dropped_total" Counter "Trace records that found their ring full." { TraceRingFull, }
}

metrics! {
    "What the uplink counts."
    UplinkMetric of Owner::Child(Role::Uplink);
    "ringway_records_accepted_total" Counter "Records that are in the journal." { Accepted, }
    "ringway_records_repeated_total" Counter "Records whose event the journal has already, accepted without a second one." { Repeated, }
    "ringway_records_refused_total" Counter "Records refused, by reason." {
        RefusedFull "reason" = "journal_full",
        RefusedDisk "reason" = "disk",
        RefusedTooLarge "reason" = "too_large",
        RefusedBadRecord "reason" = "bad_record",
    }
    "ringway_journal_records" Gauge "Records in the journal." { JournalRecords, }
    "ringway_journal_bytes" Gauge "Bytes of the journal." { JournalBytes, }
    "ringway_journal_quarantined" Gauge "Records set aside because they are damaged or the broker refuses them." { Quarantined, }
    "ringway_journal_damaged" Gauge "Rows of the journal found damaged since the uplink started." { Damaged, }
    "ringway_commits_total" Counter "Commits of the journal." { Commits, }
    "ringway_commit_seconds" Histogram "Duration of a commit." { CommitSeconds, }
    "ringway_published_total" Counter "Messages sent to the broker, repeats included." { Published, }
    "ringway_confirmed_total" Counter "Messages that the broker confirmed." { Confirmed, }
    "ringway_publish_refused_total" Counter "Messages that the broker refused." { PublishRefused, }
    "ringway_broker_connected" Gauge "1 while connected to the broker." { Connected, }
    "ringway_broker_reconnects_total" Counter "Connections to the broker begun after the first." { Reconnects, }
    "ringway_backlog_records" Gauge "Records that await their confirmation." { Backlog, }
    "ringway_uplink_degraded" Gauge "1 while the journal is over 80 % full, has refused alarms lately, or the broker refuses some." { Degraded, }
    "ringway_snapshots_total" Counter "Snapshots of the state table written." { Snapshots, }
    "ringway_uplink_trace_records_dropped_total" Counter "Trace records that found their ring full." { TraceRingFull, }
}

metrics! {
    "What the observer counts."
    ObserverMetric of Owner::Child(Role::Observer);
    "ringway_trace_records_total" Counter "Trace records taken from the rings." { TraceRecords, }
    "ringway_trace_records_refused_total" Counter "Trace records that did not parse or contradict themselves." { TraceRecordsRefused, }
    "ringway_trace_records_dropped_total" Counter "Trace records that found the queue full, by what they were of." {
        DroppedAlarms "of" = "alarm",
        DroppedRatio "of" = "ratio",
    }
    "ringway_trace_queue_bytes" Gauge "Bytes of trace records that wait for the collector." { QueueBytes, }
    "ringway_spans_exported_total" Counter "Spans that the collector took." { SpansExported, }
    "ringway_spans_refused_total" Counter "Spans that the collector refused for good." { SpansRefused, }
    "ringway_export_failures_total" Counter "Exports that failed and are tried again." { ExportFailures, }
    "ringway_scrapes_total" Counter "Requests for metrics answered." { Scrapes, }
}
