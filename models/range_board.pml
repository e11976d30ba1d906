/* RangeBoard: a job of ITEMS items, WORKERS workers that may die at any step, one owner that
 * does not (its death ends the job). See docs/design/range_board.md.
 *
 * Every access to shared memory is a step of its own, with `DIE` offering death in front of each
 * that writes: to die in front of one that only reads is to die right after the write before, and to
 * have it noticed later. All waiting blocks, so an end state in which the job is not over is
 * reported as an invalid end state: an item was lost, or a wake-up. The assertions find items run
 * twice and wrong culprits.
 *
 * A worker writes the states of its chunk when it is done; until then its cursor tells.
 *
 * With FED the items are handed out one by one, as their inputs come to be there.
 *
 * Against the code: chunks are of one size; the owner gives up a doubt after LOOKS looks and so
 * never concludes by counting hand-overs (I8); the counter `moves` is the bit `odd` and the bit `stir`,
 * "changed since the owner last read it", which keeps the number of states finite.
 *
 * What tools/check_models runs:
 * run:    -DWORKERS=2 -DITEMS=2 -DDEATHS=1
 * run:    -DWORKERS=2 -DITEMS=3 -DDEATHS=1 -DCHUNK=2
 * run:    -DWORKERS=3 -DITEMS=1 -DDEATHS=1 -DNO_REBIRTH
 * run:    -DWORKERS=2 -DITEMS=3 -DDEATHS=0 -DFED
 * prove:  -DWORKERS=2 -DITEMS=3 -DDEATHS=1
 * prove:  -DWORKERS=2 -DITEMS=2 -DDEATHS=2
 * prove:  -DWORKERS=2 -DITEMS=4 -DDEATHS=1 -DCHUNK=2
 * prove:  -DWORKERS=3 -DITEMS=2 -DDEATHS=1 -DNO_REBIRTH
 * prove:  -DWORKERS=2 -DITEMS=4 -DDEATHS=0 -DFED
 * mutant: -DWORKERS=2 -DITEMS=2 -DDEATHS=1 -DNO_DOUBTS
 * mutant: -DWORKERS=2 -DITEMS=2 -DDEATHS=1 -DNO_RECOVERY_OF_WORD
 * mutant: -DWORKERS=2 -DITEMS=3 -DDEATHS=1 -DSTEAL_FIRST_CHUNK
 * mutant: -DWORKERS=2 -DITEMS=3 -DDEATHS=1 -DODD_AFTER_TAKING
 * mutant: -DWORKERS=3 -DITEMS=1 -DDEATHS=1 -DNO_REBIRTH -DIGNORE_INTENTS
 * mutant: -DWORKERS=3 -DITEMS=2 -DDEATHS=1 -DNO_REBIRTH -DIGNORE_COUNTS
 * mutant: -DWORKERS=2 -DITEMS=3 -DDEATHS=0 -DLEAVE_SILENTLY
 * mutant: -DWORKERS=2 -DITEMS=3 -DDEATHS=0 -DPLAIN_COMMIT
 * mutant: -DWORKERS=2 -DITEMS=3 -DDEATHS=1 -DCHUNK=2 -DIGNORE_CURSOR
 * mutant: -DWORKERS=2 -DITEMS=3 -DDEATHS=1 -DCHUNK=2 -DCURSOR_AFTER_BEGINNING
 * mutant: -DWORKERS=2 -DITEMS=1 -DDEATHS=2 -DKEEP_CURSOR
 * mutant: -DWORKERS=2 -DITEMS=3 -DDEATHS=1 -DCHUNK=2 -DCOMMIT_BEFORE_STATES
 * mutant: -DWORKERS=2 -DITEMS=2 -DDEATHS=0 -DFED -DFEED_SILENTLY
 * mutant: -DWORKERS=2 -DITEMS=7 -DDEATHS=0 -DFED -DLENGTHEN_BLINDLY
 */
#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef ITEMS
#define ITEMS 3
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#ifndef CHUNK
#define CHUNK 1
#endif
#define LOOKS 1

#define PENDING 0
#define FINAL 1
#define NO_ITEM ITEMS

typedef Word { byte b; byte e };

Word share[WORKERS];
Word own[WORKERS];
Word intent[WORKERS];
Word kept[WORKERS]; /* the owner's: slices that are not handed out yet */
bool odd[WORKERS];
bool stir[WORKERS];
byte cursor[WORKERS] = NO_ITEM;
bool watched; /* the owner is in a look */
byte state[ITEMS];
bool attention;

/* The world around: who is woken, who is dead, what really happened. */
bool woken[WORKERS];
bool owner_woken;
bool over;
byte budget = DEATHS;
bool dead[WORKERS];
bool reborn[WORKERS];
byte ran[ITEMS];
byte blamed[ITEMS];
bool inside[ITEMS];
bool result[ITEMS];

#define DIE :: atomic { budget > 0 && !over -> budget--; dead[me] = true; goto gone }

/* The part of `from` that this worker wants: the whole own share, the far half of others'. */
inline choose(from, is_own, mine) {
  old.b = from.b; old.e = from.e;
  part.b = old.b; part.e = old.e;
  if
  :: mine -> skip
  :: !mine && is_own && part.b < part.e ->
#ifndef STEAL_FIRST_CHUNK
     part.b = part.b + CHUNK;
#endif
     if
     :: part.e > part.b + 1 -> part.b = part.b + (part.e - part.b) / 2
     :: else -> skip
     fi
  :: !mine && !is_own && part.e > part.b + 2 -> part.b = part.b + (part.e - part.b) / 2
  :: else -> skip
  fi
}

/* Tries a word until there is nothing in it for us; on success goes to `holding`. */
inline attempt(from, is_own, mine) {
  do
  :: atomic {
       choose(from, is_own, mine);
       if
       :: part.b >= part.e -> part.b = 0; part.e = 0; old.b = 0; old.e = 0; break
       :: else -> skip
       fi
     }
#ifndef ODD_AFTER_TAKING
     /* Nobody reads the intent before `moves` is odd: the two stores are one step. */
     if
     DIE
     :: atomic { intent[me].b = part.b; intent[me].e = part.e; odd[me] = true; stir[me] = watched }
     fi;
#endif
     if
     DIE
     :: atomic {
          moved = (from.b == old.b && from.e == old.e);
          if
          :: moved && part.b == old.b -> from.b = part.e
          :: moved && part.b != old.b -> from.e = part.b
          :: else -> skip
          fi;
          old.b = 0; old.e = 0
        }
     fi;
#ifdef ODD_AFTER_TAKING
     if
     DIE
     :: atomic { intent[me].b = part.b; intent[me].e = part.e; odd[me] = true; stir[me] = watched }
     fi;
#endif
     if
     :: moved -> if DIE :: atomic { own[me].b = part.b; own[me].e = part.e } fi
     :: else -> skip
     fi;
     if
     DIE
     :: atomic {
          odd[me] = false; stir[me] = watched;
          intent[me].b = 0; intent[me].e = 0; part.b = 0; part.e = 0;
          if
          :: moved -> moved = false; v = 0; goto holding
          :: else -> skip
          fi
        }
     fi
  od
}

proctype Worker(byte me) {
  Word old;
  Word part;
  byte item;
  byte last;
  byte v;
  byte k;
  bool moved;
  bool bare;

start:
  woken[me] = false;
looking:
  attempt(share[me], false, true);
  v = 1;
  do
  :: v < WORKERS ->
     attempt(share[(me + v) % WORKERS], false, false);
     attempt(own[(me + v) % WORKERS], true, false);
     v++
  :: else -> v = 0; break
  od;
  goto leaving;

holding: /* a chunk; none of it is run yet */
  atomic { item = own[me].b; last = (own[me].b + CHUNK < own[me].e -> own[me].b + CHUNK : own[me].e) }
  do
  :: item < last ->
     if
     DIE
     :: atomic {
          assert(state[item] == PENDING); /* never handed out twice, never run when final */
          assert(!inside[item]);
#ifndef CURSOR_AFTER_BEGINNING
          cursor[me] = item;
#endif
          inside[item] = true; ran[item]++
        }
     fi;
#ifdef CURSOR_AFTER_BEGINNING
     if DIE :: cursor[me] = item fi;
#endif
     if DIE :: atomic { result[item] = true; inside[item] = false; item++ } fi
  :: else -> break
  od;
#ifdef COMMIT_BEFORE_STATES
  if DIE :: atomic { item = own[me].b; own[me].b = last } fi;
#else
  item = own[me].b;
#endif
  do
  :: item < last -> if DIE :: atomic { state[item] = FINAL; item++ } fi
  :: else -> break
  od;
#ifdef PLAIN_COMMIT
  old.e = own[me].e;
  if DIE :: atomic { own[me].b = last; own[me].e = old.e; old.e = 0 } fi;
  atomic {
#else
  if
  DIE
  :: atomic {
#ifndef COMMIT_BEFORE_STATES
       assert(own[me].b < last && own[me].e >= last);
       own[me].b = last;
#endif
#endif
       item = 0; last = 0;
       if
       :: own[me].b < own[me].e -> goto holding
       :: else -> goto looking
       fi
     }
#ifndef PLAIN_COMMIT
  fi;
#endif

leaving:
#ifndef LEAVE_SILENTLY
  if
  :: attention -> if DIE :: owner_woken = true fi
  :: !attention ->
     bare = true;
     do
     :: k < WORKERS && bare ->
        bare = (own[k].b >= own[k].e);
        bare = bare && (share[k].b >= share[k].e);
        k++
     :: else -> break
     od;
     k = 0;
     if
     :: bare -> bare = false; if DIE :: owner_woken = true fi
     :: else -> skip
     fi
  fi;
#endif
  if
  :: over -> goto out
  :: woken[me] -> goto start
  fi;

gone:
  atomic {
    old.b = 0; old.e = 0; part.b = 0; part.e = 0; item = 0; last = 0; v = 0; k = 0;
    moved = false; bare = false
  }
  if
  :: over -> goto out
  :: atomic { reborn[me] -> reborn[me] = false; goto start }
  fi;
out:
  skip
}

/* The owner. Sets of items are bits of a byte. */

#define BITS(w) (((1 << w.e) - 1) & ~((1 << w.b) - 1)) /* none where w.b >= w.e */

/* Puts runs of spilled items into empty shares, which only the owner fills. */
inline place_spilled() {
  atomic {
    s = 0;
    do
    :: s < WORKERS && spilled != 0 ->
       if
       :: share[s].b >= share[s].e ->
          i = 0;
          do :: (spilled & (1 << i)) == 0 -> i++ :: else -> break od;
          share[s].b = i;
          do :: (spilled & (1 << i)) != 0 -> spilled = spilled & ~(1 << i); i++ :: else -> break od;
          share[s].e = i;
          i = 0;
          work = true
       :: else -> skip
       fi;
       s++
    :: else -> break
    od;
    s = 0
  }
}

/* Looks for doubtful items that are in nobody's hands. The code settles doubt after doubt, which
 * makes no difference to a set. */
inline settle_doubts() {
  do
  :: doubts == 0 || looks == LOOKS -> break
  :: else ->
     /* What moved before the first word is read is seen as it then is: one step for all counts. */
     atomic { held = spilled; moving = 0; still = true; s = 0; watched = true }
     do
     :: s < WORKERS ->
        held = held | BITS(share[s]);
        /* The seqlock of one slot succeeds when nothing moved in between: so it is one step. */
        atomic {
          held = held | BITS(own[s]);
          if
          :: odd[s] -> moving = moving | BITS(intent[s])
          :: else -> skip
          fi;
          s++
        }
     :: else -> break
     od;
     s = 0;
     do :: s < WORKERS -> atomic { still = still && !stir[s]; s++ } :: else -> break od;
     atomic {
       s = 0;
       watched = false;
       do :: s < WORKERS -> stir[s] = false; s++ :: else -> break od;
       s = 0;
#ifdef IGNORE_INTENTS
       moving = 0;
#endif
#ifdef IGNORE_COUNTS
       still = true;
#endif
       doubts = doubts & ~held;
       if
       :: still && (doubts & moving) == 0 ->
          do
          :: i < ITEMS ->
             if
             :: (doubts & (1 << i)) != 0 && state[i] == PENDING -> spilled = spilled | (1 << i)
             :: else -> skip
             fi;
             i++
          :: else -> break
          od;
          i = 0;
          doubts = 0
       :: else -> skip
       fi;
       held = 0; moving = 0; still = false; looks++
     }
  od;
  looks = 0
}

inline heal() {
  if
  :: spilled != 0 || doubts != 0 -> settle_doubts(); place_spilled()
  :: else -> skip
  fi;
  if
  :: spilled != 0 || doubts != 0 ->
     attention = true;
     settle_doubts();
     place_spilled()
  :: else -> skip
  fi;
  if
  :: spilled == 0 && doubts == 0 -> attention = false
  :: else -> skip
  fi
}

#if WORKERS > 2
#define ALL_LET_GO (kept[0].b >= kept[0].e && kept[1].b >= kept[1].e && kept[2].b >= kept[2].e)
#else
#define ALL_LET_GO (kept[0].b >= kept[0].e && kept[1].b >= kept[1].e)
#endif

/* Hands out an item of some slice: behind what is in its share, or wherever there is room. */
inline let_go() {
  atomic {
    if
    :: ALL_LET_GO -> skip
    :: else ->
       if
       :: kept[0].b < kept[0].e -> s = 0
       :: kept[1].b < kept[1].e -> s = 1
#if WORKERS > 2
       :: kept[2].b < kept[2].e -> s = 2
#endif
       fi;
       if
#ifdef LENGTHEN_BLINDLY
       :: share[s].b < share[s].e -> share[s].e = kept[s].b + 1; work = true
#else
       :: share[s].b < share[s].e && share[s].e == kept[s].b -> share[s].e++; work = true
       :: share[s].b < share[s].e && share[s].e != kept[s].b ->
          spilled = spilled | (1 << kept[s].b)
#endif
       :: else -> share[s].b = kept[s].b; share[s].e = kept[s].b + 1; work = true
       fi;
#ifdef FEED_SILENTLY
       work = false;
#endif
       kept[s].b++;
       s = 0
    fi
  }
}

/* The worker of slot r is dead: the kernel says so. Its culprit is run again. */
inline recover() {
  atomic {
  taken.b = own[r].b; taken.e = own[r].e; own[r].b = own[r].e;
#ifdef NO_RECOVERY_OF_WORD
  taken.b = taken.e;
#endif
  if
  :: odd[r] ->
#ifndef NO_DOUBTS
     if
     :: taken.b >= taken.e -> doubts = doubts | BITS(intent[r])
     :: else -> skip
     fi;
#endif
     odd[r] = false
  :: else -> skip
  fi;
  intent[r].b = 0; intent[r].e = 0;
#ifndef IGNORE_CURSOR
  if
  :: taken.b <= cursor[r] && cursor[r] < taken.e ->
     do
     :: taken.b < cursor[r] ->
        assert(result[taken.b]); /* taken for a value: so it must be one */
        state[taken.b] = FINAL;
        taken.b++
     :: else -> break
     od;
     if
     :: state[taken.b] == PENDING ->
        blamed[taken.b]++;
        assert(!reborn[r] && (inside[taken.b] || result[taken.b]));
        inside[taken.b] = false;
        spilled = spilled | (1 << taken.b)
     :: else -> skip
     fi;
     taken.b++
  :: else -> skip
  fi;
#endif
  do
  :: taken.b < taken.e && state[taken.b] == FINAL -> taken.b++
  :: else -> break
  od;
#ifndef KEEP_CURSOR
  cursor[r] = NO_ITEM;
#endif
  if
  :: taken.b < taken.e -> spilled = spilled | BITS(taken)
  :: else -> skip
  fi;
  taken.b = 0; taken.e = 0;
  dead[r] = false;
#ifndef NO_REBIRTH
  reborn[r] = true;
#endif
  }
}

#if WORKERS > 2
#define SOMEBODY_DIED (dead[0] || dead[1] || dead[2])
#else
#define SOMEBODY_DIED (dead[0] || dead[1])
#endif

proctype Owner() {
  byte spilled;
  byte doubts;
  byte held;
  byte moving;
  byte looks;
  byte s;
  byte i;
  byte r;
  bool still;
  bool all;
  bool work;
  Word taken;

  do
  :: do
     :: r < WORKERS ->
        if
        :: dead[r] -> recover()
        :: else -> skip
        fi;
        r++
     :: else -> break
     od;
     r = 0;
     let_go();
     heal();
     if
     :: work ->
        atomic {
          work = false;
          do :: i < WORKERS -> woken[i] = true; i++ :: else -> break od;
          i = 0
        }
     :: else -> skip
     fi;
     atomic {
       all = true;
       do :: i < ITEMS -> all = all && state[i] == FINAL; i++ :: else -> break od;
       i = 0
     }
     if
     :: all -> break
     :: else -> skip
     fi;
     atomic { owner_woken || SOMEBODY_DIED || !ALL_LET_GO -> owner_woken = false }
  od;
  atomic {
    do
    :: i < ITEMS ->
       assert(result[i] && ran[i] >= 1 && ran[i] <= 1 + blamed[i] && blamed[i] <= DEATHS);
       i++
    :: else -> break
    od;
    over = true
  }
}

init {
  byte i = 0;
  atomic {
    do
    :: i < WORKERS ->
#ifdef FED
       kept[i].b = ITEMS * i / WORKERS;
       kept[i].e = ITEMS * (i + 1) / WORKERS;
#else
       share[i].b = ITEMS * i / WORKERS;
       share[i].e = ITEMS * (i + 1) / WORKERS;
#endif
       i++
    :: else -> break
    od;
    i = 0;
    do :: i < WORKERS -> run Worker(i); i++ :: else -> break od;
    run Owner()
  }
}
