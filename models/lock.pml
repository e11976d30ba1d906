/* LockWord: LOCKERS threads that lock and unlock, the first of them MORE times more, the last TIMED
 * of them with a deadline; DEATHS of them may die at any step. See docs/design/sync.md.
 *
 * Every access to shared memory is a step of its own, and so is every call of the kernel, with `DIE`
 * in front of each that writes. Sleeping blocks until the kernel wakes: by the word, by the life word
 * of the holder, which it tells to one sleeper only, or by an announcement; so an end state in which
 * somebody sleeps is reported as an invalid one. The assertions find two inside, one that is robbed,
 * and one who takes over from the dead without being told.
 *
 * `stale` is the death epoch: whether a death was announced since the thread last looked at it. The
 * watchdog announces every death at some time; with NO_WATCHDOG there is none, only holders die, and
 * life words alone must do. That is enough for two: a third may sleep on an earlier holder's life.
 * A deadline may pass at any time, and stays passed.
 *
 * Against the code: nobody spins; RLock's depth is the holder's own; SharedLock's `passing` is not
 * here; no thread takes the place of a dead one.
 *
 * What tools/check_models runs:
 * run:    -DLOCKERS=3 -DDEATHS=1
 * run:    -DLOCKERS=3 -DDEATHS=2
 * run:    -DLOCKERS=3 -DDEATHS=1 -DTIMED=1 -DMORE=1
 * run:    -DLOCKERS=4 -DDEATHS=0
 * run:    -DLOCKERS=2 -DDEATHS=2 -DMORE=1 -DNO_WATCHDOG
 * prove:  -DLOCKERS=4 -DDEATHS=0 -DTIMED=1 -DMORE=1
 * prove:  -DLOCKERS=4 -DDEATHS=1
 * prove:  -DLOCKERS=3 -DDEATHS=2 -DTIMED=1 -DMORE=1
 * mutant: -DLOCKERS=2 -DDEATHS=0 -DUNLOCK_WAKES_NOBODY
 * mutant: -DLOCKERS=3 -DDEATHS=0 -DMARK_CLEARED_UNSEEN
 * mutant: -DLOCKERS=3 -DDEATHS=1 -DSILENT_TAKEOVER
 * mutant: -DLOCKERS=2 -DDEATHS=0 -DROBS_THE_LIVING
 * mutant: -DLOCKERS=3 -DDEATHS=1 -DDEAF
 * mutant: -DLOCKERS=4 -DDEATHS=0 -DSLEPT_BUT_NO_MARK
 * mutant: -DLOCKERS=4 -DDEATHS=0 -DTIMED=1 -DMORE=1 -DGIVES_UP_WITHOUT_MARK
 * mutant: -DLOCKERS=2 -DDEATHS=1 -DNO_WATCHDOG -DWATCHES_NOBODY
 */
#ifndef TIMED
#define TIMED 0
#endif
#ifndef MORE
#define MORE 0
#endif
#define NOBODY LOCKERS

/* The word. */
bool mark;
bool owner_died;
byte holder = NOBODY;

/* The kernel. */
#define AWAKE 0
#define ASLEEP 1
#define BY_LIFE 2
byte bed[LOCKERS];
byte watches[LOCKERS] = NOBODY; /* on whose life word it sleeps too */
bool dead[LOCKERS + 1];
bool unheard; /* of a death, by the watchdog */
bool stale[LOCKERS];

/* The world around. */
byte budget = DEATHS;
byte inside = NOBODY;
bool dirty; /* somebody died inside, and nobody has been told */
byte over;

#ifdef NO_WATCHDOG
#define MORTAL (holder == me || waking)
#else
#define MORTAL true
#endif
#define DIE :: atomic { budget > 0 && MORTAL -> budget--; die(); goto gone }

#if LOCKERS > 2
#define IF_THIRD(it) it
#else
#define IF_THIRD(it)
#endif
#if LOCKERS > 3
#define IF_FOURTH(it) it
#else
#define IF_FOURTH(it)
#endif

/* Within atomic. */
inline die() {
  dead[me] = true;
  bed[me] = AWAKE;
  watches[me] = NOBODY;
  unheard = true;
  if
  :: inside == me -> inside = NOBODY; dirty = true
  :: else
  fi;
  if
  :: bed[0] == ASLEEP && watches[0] == me -> bed[0] = BY_LIFE
  :: bed[1] == ASLEEP && watches[1] == me -> bed[1] = BY_LIFE
  IF_THIRD(:: bed[2] == ASLEEP && watches[2] == me -> bed[2] = BY_LIFE)
  IF_FOURTH(:: bed[3] == ASLEEP && watches[3] == me -> bed[3] = BY_LIFE)
  :: else
  fi
}

#ifdef DEAF
#define HEAR(who)
#else
#define HEAR(who) \
  stale[who] = true; \
  if :: bed[who] == ASLEEP -> bed[who] = AWAKE; watches[who] = NOBODY :: else fi;
#endif

/* Within atomic. */
inline announce() {
  HEAR(0)
  HEAR(1)
  IF_THIRD(HEAR(2))
  IF_FOURTH(HEAR(3))
  skip
}

/* Within atomic. Takes the place of nobody, or of the dead. */
inline enter() {
#ifndef SILENT_TAKEOVER
  owner_died = owner_died || (holder != NOBODY);
#endif
  holder = me;
#ifndef SLEPT_BUT_NO_MARK
  mark = mark || slept;
#endif
  assert(inside == NOBODY);
  assert(!dirty || owner_died);
  inside = me;
  dirty = false;
  old_mark = false; old_died = false; old = NOBODY; slept = false;
  goto locked
}

#define UNCHANGED (mark == old_mark && owner_died == old_died && holder == old)
#define TIME_MAY_PASS if :: is_timed -> late = true :: true fi

proctype Locker(byte me) {
  byte left = 1;
  byte old = NOBODY; /* what it read of the word */
  bool old_mark;
  bool old_died;
  bool slept;
  bool late;
  bool waking; /* has unlocked, and is to wake */
  bool is_timed;
  bool woken;

  atomic {
    is_timed = (me >= LOCKERS - TIMED);
    if :: me == 0 -> left = 1 + MORE :: else fi
  }
  do
  :: left == 0 -> break
  :: left > 0 ->
     left--;
     /* lock */
     if
     DIE
     :: atomic { !mark && !owner_died && holder == NOBODY -> enter() }
     :: atomic { mark || owner_died || holder != NOBODY -> skip }
     fi;
look:
     stale[me] = false;
     atomic { old_mark = mark; old_died = owner_died; old = holder }
     if
     :: old == NOBODY ->
        if
        DIE
        :: atomic { UNCHANGED -> enter() }
        :: atomic { !UNCHANGED -> goto look }
        fi
#ifdef ROBS_THE_LIVING
     :: old != NOBODY ->
#else
     :: old != NOBODY && dead[old] ->
#endif
        if
        :: old_mark -> if DIE :: atomic { announce() } fi
        :: else
        fi;
        if
        DIE
        :: atomic { UNCHANGED -> enter() }
        :: atomic { !UNCHANGED -> goto look }
        fi
     :: old != NOBODY && !dead[old] ->
        TIME_MAY_PASS;
#ifdef GIVES_UP_WITHOUT_MARK
        if :: late -> goto next :: else fi;
#else
        if :: late && !slept -> goto next :: else fi;
#endif
        if
        :: old_mark
        :: !old_mark ->
           if
           DIE
           :: atomic { UNCHANGED -> mark = true; old_mark = true }
           :: atomic { !UNCHANGED -> goto look }
           fi
        fi;
        TIME_MAY_PASS;
        if :: late -> goto next :: else fi;
        atomic {
          if
          :: UNCHANGED && !stale[me] && !dead[old] ->
             bed[me] = ASLEEP;
#ifndef WATCHES_NOBODY
             watches[me] = old
#endif
          :: else
          fi
        };
        if
        DIE
        :: atomic { bed[me] == AWAKE -> watches[me] = NOBODY }
        :: atomic { bed[me] == BY_LIFE -> bed[me] = AWAKE; watches[me] = NOBODY };
           if DIE :: atomic { announce() } fi
        :: atomic { is_timed && bed[me] == ASLEEP -> bed[me] = AWAKE; watches[me] = NOBODY; late = true }
        fi;
        slept = true;
        goto look
     fi;
locked:
     assert(holder == me);
     /* unlock */
     if
     DIE
     :: atomic {
          !mark && !owner_died ->
          assert(holder == me && inside == me);
          holder = NOBODY; inside = NOBODY;
          goto next
        }
     :: atomic { mark || owner_died -> skip }
     fi;
     if
     DIE
     :: atomic {
          assert(holder == me && inside == me);
          owner_died = false; holder = NOBODY; inside = NOBODY; waking = true;
          if :: mark :: else -> waking = false; goto next fi
        }
     fi;
#ifdef UNLOCK_WAKES_NOBODY
     woken = true;
#else
     if
     DIE
     :: atomic {
          if
          :: bed[0] == ASLEEP -> bed[0] = AWAKE; woken = true
          :: bed[1] == ASLEEP -> bed[1] = AWAKE; woken = true
          IF_THIRD(:: bed[2] == ASLEEP -> bed[2] = AWAKE; woken = true)
          IF_FOURTH(:: bed[3] == ASLEEP -> bed[3] = AWAKE; woken = true)
          :: else
          fi
        }
     fi;
#endif
     waking = false;
     if
     :: woken
     :: !woken ->
        if
        DIE
#ifdef MARK_CLEARED_UNSEEN
        :: mark = false
#else
        :: atomic { if :: mark && !owner_died && holder == NOBODY -> mark = false :: else fi }
#endif
        fi
     fi;
next:
     atomic { woken = false; old_mark = false; old_died = false; old = NOBODY; slept = false; late = false }
  od;
gone:
  over++
}

#ifndef NO_WATCHDOG
proctype Watchdog() {
end_watching:
  do
  :: atomic { unheard -> unheard = false; announce() }
  od
}
#endif

init {
  byte i;
  atomic {
    do :: i < LOCKERS -> run Locker(i); i++ :: else -> break od;
#ifndef NO_WATCHDOG
    run Watchdog()
#endif
  }
  over == LOCKERS;
  assert(holder == NOBODY || dead[holder])
}
