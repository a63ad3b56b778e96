//! Notices and output as events of PM2's bus.

use crate::base::{ExitStatus, ProcId, WallTime};
use crate::daemon::Daemon;
use crate::logs::{LogLine, StreamId};
use crate::proto::buffer::Class;
use crate::proto::messages::event::millis;
use crate::proto::pm2::bus::{self, End};
use crate::supervisor::vocabulary::{ErroredReason, Notice, NoticeKind, Status};

/// Bytes of lines that go into one event.
const CHUNK: usize = 64 * 1024;

impl Daemon {
    /// Tells the bus what a notice means there.
    pub(in crate::daemon) fn tell_notice(&mut self, notice: &Notice, last_output: &[String]) {
        if !self.pm2.has_listeners() {
            return;
        }
        let id = notice.process;
        match &notice.kind {
            NoticeKind::Started { .. }
            | NoticeKind::Restarted { .. }
            | NoticeKind::Reloaded { .. } => self.tell_event(id, "online", false, None),
            NoticeKind::Status { from: Some(Status::Stopping), .. } => {
                // PM2 tells it when the child has ended, and again when the stop is complete.
                let exit = self.supervisor.process(id).and_then(|it| it.last_exit().copied());
                let end = exit.map(|exit| End {
                    status: exit.status,
                    uptime: millis(exit.uptime),
                    last_output: Vec::new(),
                });
                for _ in 0..2 {
                    self.tell_event(id, "exit", false, end.as_ref());
                }
            }
            NoticeKind::Crashed { status, uptime, .. } => {
                self.pm2.crashed = Some(id);
                let end = end(*status, *uptime, last_output);
                self.tell_event(id, "exit", false, Some(&end));
            }
            NoticeKind::Stopped { status: Some(status), uptime, commanded: false, .. } => {
                if self.pm2.crashed.take() != Some(id) {
                    let end = end(*status, *uptime, last_output);
                    self.tell_event(id, "exit", false, Some(&end));
                }
            }
            NoticeKind::Errored { reason: ErroredReason::MaxRestarts { .. }, .. } => {
                self.tell_event(id, "restart overlimit", false, None);
            }
            NoticeKind::Status { .. }
            | NoticeKind::Stopped { .. }
            | NoticeKind::Errored { .. }
            | NoticeKind::NotReady { .. }
            | NoticeKind::Health { .. }
            | NoticeKind::HealthCheckFailed { .. }
            | NoticeKind::Adopted { .. }
            | NoticeKind::MemoryLimitExceeded { .. }
            | NoticeKind::ConfigChanged { .. }
            | NoticeKind::Deleted => {}
        }
    }

    /// Tells a `process:event`, and what older clients know it by.
    pub(super) fn tell_event(
        &mut self,
        id: ProcId,
        event: &str,
        manually: bool,
        end: Option<&End>,
    ) {
        if !self.pm2.has_listeners() || !self.prepare_shown(id) {
            return;
        }
        let Some(shown) = self.shown(id) else { return };
        let at = self.now.wall;
        let frame = bus::process_event(shown, event, manually, end, at);
        let old = bus::old_process_event(shown, event, end, at);
        self.connections.tell_pm2(&frame, Class::Reply);
        if let Some(old) = old {
            self.connections.tell_pm2(&old, Class::Reply);
        }
    }

    /// Tells what processes wrote: the lines of one stream that came together are one event.
    pub(in crate::daemon) fn tell_lines(&mut self, lines: &[LogLine]) {
        let mut rest = lines;
        while let Some(first) = rest.first() {
            let (id, mut text, mut count) = (first.id, Vec::new(), 0);
            for line in rest.iter().take_while(|line| line.id == id) {
                if count > 0 && text.len() + line.bytes.len() > CHUNK {
                    break;
                }
                text.extend_from_slice(&line.bytes);
                if !line.partial {
                    text.push(b'\n');
                }
                count += 1;
            }
            self.tell_output(id, &text, first.at);
            rest = rest.get(count..).unwrap_or_default();
        }
    }

    fn tell_output(&mut self, id: StreamId, text: &[u8], at: Option<WallTime>) {
        let Some(entry) = self.entries.get(&id.process) else { return };
        let process = self.supervisor.process(id.process);
        let status = process.map_or("stopped", |process| process.status().pm2_name());
        let at = at.unwrap_or(self.now.wall);
        let frame = bus::log(&entry.subject, status, id.stream, text, at);
        self.connections.tell_pm2(&frame, Class::Event);
    }

    /// Tells what the daemon said about itself.
    pub(in crate::daemon) fn tell_own_log(&mut self) {
        for (at, line) in self.own_log.take_tapped() {
            self.connections.tell_pm2(&bus::own_log(&line, at), Class::Event);
        }
    }

    /// Tells that the daemon goes down.
    pub(in crate::daemon) fn tell_kill(&mut self, by_signal: bool) {
        self.connections.tell_pm2(&bus::kill(by_signal), Class::Reply);
    }
}

fn end(status: ExitStatus, uptime: std::time::Duration, last_output: &[String]) -> End {
    End { status, uptime: millis(uptime), last_output: last_output.to_vec() }
}
