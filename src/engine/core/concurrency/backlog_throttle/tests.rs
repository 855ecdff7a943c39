//! The pace, in a loop with a machine that gets slower the more it has to do.

use super::*;

/// What a machine is like: how many deliveries a second it can do, and how long one takes when it does little.
const CAN: f64 = 20_000.0;
const ONE: Duration = Duration::from_micros(800);

/// A machine with a backlog that never ends, and others who are sent so many a second.
struct Machine {
    throttle: BacklogThrottle,
    now: Duration,
    others: f64,
    backlog: bool,
    /// How many deliveries leave in a second at most, for whatever other reason.
    most: f64,
    /// Something of the others waits in the process.
    waiting: bool,
    /// A disk that stalls: what everything takes then, whatever leaves.
    stalls: Option<Duration>,
    /// How busy it is, from 0 to 1, and how many of the others are still to come.
    busy: f64,
    owed: f64,
    /// What left for those behind, and what others took, in this second.
    left: u32,
    took: Vec<Duration>,
}

impl Machine {
    fn new(others: f64) -> Machine {
        let throttle = BacklogThrottle::new();
        let (now, took) = (Duration::from_secs(100), Vec::new());
        Machine {
            throttle,
            now,
            others,
            backlog: false,
            most: CAN,
            waiting: false,
            stalls: None,
            busy: 0.0,
            owed: 0.0,
            left: 0,
            took,
        }
    }

    /// Milliseconds pass. Gives back how many left for those behind, and what others took in the middle.
    fn run(&mut self, millis: u64) -> (u32, Duration) {
        (self.left, self.took) = (0, vec![Duration::ZERO]);
        for _ in 0..millis {
            self.tick();
        }
        (self.left, median(&mut self.took))
    }

    fn tick(&mut self) {
        self.now += Duration::from_millis(1);
        self.throttle.look(self.now, self.waiting);
        let mut work = 0.0;
        self.owed += self.others / 1_000.0;
        while self.owed >= 1.0 {
            self.owed -= 1.0;
            let took = self.stalls.unwrap_or(ONE.div_f64(1.0 - self.busy));
            self.throttle.came(took);
            self.took.push(took);
            self.throttle.leaves(false, self.now);
            work += 1.0;
        }
        let most = self.most.min(CAN) / 1_000.0;
        while self.backlog && work < most && self.throttle.wait(self.now).is_none() {
            self.throttle.leaves(true, self.now);
            self.left += 1;
            work += 1.0;
        }
        // What the last few milliseconds brought is still being done.
        let share = (work / (CAN / 1_000.0)).min(0.95);
        self.busy += (share - self.busy) * 0.2;
    }
}

#[test]
fn a_backlog_takes_what_others_do_not_notice() {
    let mut machine = Machine::new(400.0);
    let (_, quiet) = machine.run(2_000);
    machine.backlog = true;
    let (_, at_first) = machine.run(1_000);
    assert!(at_first < quiet * 2, "from the beginning: {at_first:?} after {quiet:?}");
    let (left, then) = machine.run(10_000);
    assert!(then < quiet.mul_f64(1.6), "{then:?} after {quiet:?}");
    // A third of what it can do makes everything take half as much again.
    assert!((30_000..70_000).contains(&left), "{left} in ten seconds");
}

#[test]
fn where_there_are_no_others_a_backlog_goes_as_fast_as_it_can() {
    let mut machine = Machine::new(400.0);
    machine.run(2_000);
    machine.backlog = true;
    machine.run(2_000);
    machine.others = 2.0;
    machine.run(2_000);
    let (left, _) = machine.run(1_000);
    assert!(f64::from(left) > CAN * 0.95, "{left} in a second");
    machine.others = 400.0;
    // Until enough of them have come to see that they are back.
    machine.run(1_000);
    for _ in 0..5 {
        let (left, _) = machine.run(200);
        assert!((80..2_000).contains(&left), "{left} in 0.2 s beside others who came back");
    }
}

#[test]
fn each_backlog_begins_slowly() {
    let mut machine = Machine::new(400.0);
    machine.run(2_000);
    for _ in 0..2 {
        machine.backlog = true;
        let (left, _) = machine.run(50);
        assert!((40..60).contains(&left), "{left} in 50 ms");
        machine.run(3_000);
        machine.backlog = false;
        machine.run(1_000);
    }
    machine.backlog = true;
    // Its receiver is slow, so that the others notice nothing; and then it is not any more.
    machine.most = 500.0;
    machine.run(5_000);
    machine.most = CAN;
    let (left, _) = machine.run(100);
    assert!((50..350).contains(&left), "{left} in 0.1 s");
}

#[test]
fn what_is_usual_is_found_out_although_the_backlog_was_there_first() {
    let mut machine = Machine::new(400.0);
    machine.backlog = true;
    machine.run(2_000);
    let (_, then) = machine.run(5_000);
    assert!(then < ONE.mul_f64(1.7), "{then:?}");
}

#[test]
fn a_stall_of_the_disk_is_not_what_is_usual_from_then_on() {
    let mut machine = Machine::new(400.0);
    machine.run(2_000);
    machine.backlog = true;
    let (before, _) = machine.run(5_000);
    machine.stalls = Some(Duration::from_millis(60));
    let (within, _) = machine.run(300);
    assert!(within < before / 15, "it adds nothing to a stall: {within} in 0.3 s, {before} in 5 s before");
    machine.stalls = None;
    machine.run(2_000);
    let (left, then) = machine.run(5_000);
    assert!(then < ONE.mul_f64(1.7), "{then:?}");
    assert!(left > before / 2, "and it goes on: {left} after {before}");
}

#[test]
fn whatever_others_say_a_backlog_gets_as_much_as_they_do() {
    let mut machine = Machine::new(3_000.0);
    machine.run(2_000);
    machine.backlog = true;
    // All of it is theirs: the machine is slow, whether a backlog is there or not.
    machine.stalls = Some(Duration::from_millis(5));
    machine.run(1_000);
    let (left, _) = machine.run(1_000);
    assert!(left >= 2_700, "{left} in a second, beside 3,000");
    // What does not get better when the backlog gives way is not its doing, and no reason to go on giving way.
    machine.run(10_000);
    let (left, _) = machine.run(1_000);
    assert!(left > 6_000, "{left} in a second");
}

#[test]
fn an_overload_beyond_a_second_does_not_switch_the_throttle_off() {
    let mut machine = Machine::new(400.0);
    machine.run(2_000);
    machine.backlog = true;
    machine.run(5_000);
    machine.stalls = Some(LONGEST_SAMPLE);
    machine.run(1_000);
    let (left, _) = machine.run(1_000);
    assert!((90..1_000).contains(&left), "it falls to the share of the others: {left} in a second");
    assert!(machine.throttle.pace().is_some());
}

#[test]
fn samples_that_stop_while_others_wait_do_not_switch_the_throttle_off() {
    let mut machine = Machine::new(400.0);
    machine.run(2_000);
    machine.backlog = true;
    machine.run(5_000);
    (machine.others, machine.waiting) = (0.0, true);
    machine.run(10_000);
    let (left, _) = machine.run(1_000);
    assert!((90..150).contains(&left), "the least share: {left} in a second");
    (machine.others, machine.waiting) = (400.0, false);
    machine.run(5_000);
    let (left, _) = machine.run(1_000);
    assert!(left > 1_000, "and it recovers: {left} in a second");
}

#[test]
fn an_overload_never_passes_for_an_idle_machine_while_others_wait() {
    let mut machine = Machine::new(400.0);
    machine.run(2_000);
    machine.backlog = true;
    machine.run(5_000);
    // Others wait, and the machine does less and less: few samples, each above a second; then none; then some more, by turns.
    machine.waiting = true;
    for round in 0..60 {
        machine.others = [3.0, 0.0, 20.0][round % 3];
        machine.stalls = Some(LONGEST_SAMPLE * (1 + round as u32 % 3));
        for _ in 0..1_500 {
            machine.tick();
            assert!(!machine.throttle.alone, "round {round}: {:?}", machine.throttle);
        }
        let (left, _) = machine.run(1_000);
        assert!(round < 8 || (90..200).contains(&left), "round {round}: the least share and no more: {left}");
    }
    (machine.others, machine.waiting, machine.stalls) = (0.0, false, None);
    machine.run(3_000);
    let (left, _) = machine.run(1_000);
    assert!(f64::from(left) > CAN * 0.95, "it ends with the overload: {left}");
}
