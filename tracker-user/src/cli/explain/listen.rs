//! The answer to `tracker explain listen`.

use std::fmt::Write as _;

use tracker_model::explain::{ListenAnswer, ListeningSocket, StepState};

use super::paragraph;
use crate::cli::{
    format::{UNKNOWN, address_port, count, printable, process},
    output::View,
    table::{self, Column},
};

/// The cause, the remedy, and the way of a SYN step by step; the sockets that listen too if everything is shown.
pub(in crate::cli) fn render(answer: &ListenAnswer, view: View) -> String {
    let mut text = format!("{}\n", printable(&answer.summary));
    text += &paragraph("What to do:", &answer.advice);
    text += "\nStep by step:\n";
    for step in &answer.steps {
        let mark = match step.state {
            StepState::Ok => "ok",
            StepState::Problem => "HERE",
            StepState::Unknown => UNKNOWN,
        };
        let _ = writeln!(text, "  {mark:<6}{:<12}{}", step.subject.to_string(), printable(&step.text));
    }
    if view.wide && !answer.figures.sockets.is_empty() {
        let _ = write!(text, "\n{}", sockets(&answer.figures.sockets, answer.port));
    }
    text += &paragraph("Note:", &answer.notes);
    text
}

fn sockets(sockets: &[ListeningSocket], port: u16) -> String {
    let columns = [
        Column::Text("LISTENS"),
        Column::Text("DEVICE"),
        Column::Text("PROCESS"),
        Column::Number("ACCEPT-Q"),
        Column::Number("SYN-Q"),
        Column::Number("YOUNG"),
        Column::Text(" TAKES"),
    ];
    let row = |socket: &ListeningSocket| {
        let processes: Vec<_> = socket.processes.iter().map(|of| process(of.pid, &of.comm)).collect();
        let unknown = || UNKNOWN.to_owned();
        let queue =
            |of: fn(&tracker_model::explain::SocketQueues) -> String| socket.queues.as_ref().map_or_else(unknown, of);
        vec![
            address_port(&socket.address.to_string(), port),
            socket.device.clone().unwrap_or_else(unknown),
            if processes.is_empty() { unknown() } else { processes.join(", ") },
            queue(|of| format!("{}/{}", count(of.accept_queue.into()), count(of.accept_queue_max.into()))),
            queue(|of| count(of.syn_queue.into())),
            queue(|of| count(of.syn_queue_young.into())),
            if socket.takes { " yes" } else { " no" }.to_owned(),
        ]
    };
    table::render(&columns, sockets.iter().map(row).collect(), None)
}
